"""The job table: promised with the change, claimed once, fenced, tried six times, held."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now

from approvals import ports, queue, services, tasks
from approvals.models import Job, Request
from approvals.queue import backoff, claims, running
from keyvault.accounts.directory import Directory
from keyvault.audit.models import Event
from tests import cast as people

pytestmark = pytest.mark.django_db


@pytest.fixture
def chore(monkeypatch, house):
    """Return a recorder of runs for jobs of kind "test.chore"; set `.fault` to make them fail."""

    class Chore:
        def __init__(self):
            self.ran, self.fault = [], None

        def __call__(self, subject_id, run):
            self.ran.append((subject_id, run.epoch))
            if self.fault is not None:
                raise self.fault

        def promise(self, subject_id=None):
            with transaction.atomic():
                return queue.enqueue(kind="test.chore", subject_id=subject_id or uuid4())

        def run(self, job_id):
            return queue.run(job_id, worker="test", now=house.now)

        def wait_out(self, job_id):
            Job.objects.filter(pk=job_id).update(due_at=Now(), lease_until=Now())

    chore = Chore()
    monkeypatch.setitem(running._handlers, "test.chore", chore)
    return chore


def state(job_id):
    return Job.objects.get(pk=job_id).state


def test_a_job_runs_once_however_often_its_message_arrives(chore):
    job = chore.promise()
    assert [chore.run(job) for _ in range(5)] == [True, False, False, False, False]
    assert len(chore.ran) == 1
    assert state(job) == "done"


def wake(chore, house, subject):
    with transaction.atomic():
        queue.wake(kind="test.chore", subject_id=subject, person=house.cast.alice, now=house.now)


def test_waking_a_running_job_takes_it_from_a_worker_that_would_hold_it(chore, house):
    subject = uuid4()
    job = chore.promise(subject)
    chore.fault = ports.NeedsPerson("x", "Somebody must write something.")
    claim = claims.claim(job, worker="test", now=house.now)

    wake(chore, house, subject)

    with pytest.raises(ports.LostClaim):
        running.hold(claim, "x", "Somebody must write something.")
    assert state(job) == "ready"
    chore.fault = None
    assert chore.run(job)
    assert state(job) == "done"


def test_waking_a_held_job_says_by_whom_and_one_that_is_over_stays_so(chore, house):
    subject = uuid4()
    job = chore.promise(subject)
    chore.fault = ports.NeedsPerson("x", "x")
    chore.run(job)
    wake(chore, house, subject)
    assert (state(job), Event.objects.get(event="job.resumed").actor_label) == ("ready", "Alice")
    chore.fault = None
    chore.run(job)

    wake(chore, house, subject)

    assert state(job) == "done"
    assert Event.objects.filter(event="job.resumed").count() == 1


def test_promising_twice_is_promising_once_while_it_is_open(chore):
    subject = uuid4()
    first, again = chore.promise(subject), chore.promise(subject)
    assert first == again
    chore.run(first)
    assert chore.promise(subject) != first


def test_a_job_is_promised_inside_a_transaction_only(monkeypatch):
    class Idle:
        in_atomic_block = False

    monkeypatch.setattr("approvals.queue.rows.connection", Idle())
    with pytest.raises(AssertionError, match="inside the transaction"):
        queue.enqueue(kind="test.chore", subject_id=uuid4())


def test_a_job_that_is_not_due_is_not_claimed(chore, house):
    with transaction.atomic():
        due_at = house.later(hours=1)
        job = queue.enqueue(kind="test.chore", subject_id=uuid4(), due_at=due_at)
    assert not chore.run(job)


def test_r63_a_poisonous_handler_gets_six_tries_and_is_held_while_others_go_on(chore):
    bad = chore.promise()
    chore.fault = ValueError("hunter2")
    for _ in range(8):
        chore.wait_out(bad)
        chore.run(bad)
    row = Job.objects.get(pk=bad)
    assert (row.state, row.attempts, len(chore.ran)) == ("held", 6, 6)
    assert "hunter2" not in row.sentence
    event = Event.objects.get(event="job.held")
    assert event.fields["attempts"] == 6
    chore.fault = None
    assert chore.run(chore.promise())
    assert [job.id for job in queue.held()] == [bad]


def test_a_held_job_is_taken_up_again_by_a_person(chore, house):
    job = chore.promise()
    chore.fault = ports.NeedsPerson("no_value", "Somebody must paste the value.")
    chore.run(job)
    assert (queue.held()[0].code, queue.held()[0].sentence) == (
        "no_value",
        "Somebody must paste the value.",
    )
    queue.resume(job_id=job, person=house.cast.frank, now=house.now)
    with pytest.raises(queue.NotHeld):
        queue.resume(job_id=job, person=house.cast.frank, now=house.now)
    chore.fault = None
    assert chore.run(job)
    assert state(job) == "done"
    assert Event.objects.get(event="job.resumed").actor_label == "Frank"


def test_resuming_a_job_that_does_not_exist_is_not_visible(house):
    with pytest.raises(ports.NotVisible):
        queue.resume(job_id=1, person=house.cast.frank, now=house.now)


def test_a_worker_that_died_loses_the_job_to_the_next_one(chore, house):
    job = chore.promise()
    dead = claims.claim(job, worker="dead", now=house.now)
    assert claims.claim(job, worker="next", now=house.now) is None
    chore.wait_out(job)
    alive = claims.claim(job, worker="next", now=house.now)
    assert alive.epoch == dead.epoch + 1
    alive.fence()
    with pytest.raises(ports.LostClaim):
        dead.fence()
    with pytest.raises(ports.LostClaim):
        running.settle(dead, state=Job.State.DONE, code="", sentence="")
    assert state(job) == "running"


def test_a_job_whose_worker_dies_six_times_is_held_and_not_run_again(chore, house):
    job = chore.promise()
    for _ in range(6):
        chore.wait_out(job)
        assert claims.claim(job, worker="dies", now=house.now)
    chore.wait_out(job)
    chore.run(job)
    assert (state(job), chore.ran) == ("held", [])


def test_a_late_result_of_a_lost_claim_is_dropped(chore, house):
    job = chore.promise()

    def steal(subject_id, run):
        chore.wait_out(job)
        assert claims.claim(job, worker="thief", now=house.now)

    running._handlers["test.chore"] = steal
    assert chore.run(job)
    assert state(job) == "running"
    assert Job.objects.get(pk=job).worker == "thief"


def test_a_kind_without_a_handler_is_held_for_a_person(house):
    with transaction.atomic():
        job = queue.enqueue(kind="test.unknown", subject_id=uuid4())
    queue.run(job, worker="test", now=house.now)
    assert Job.objects.get(pk=job).code == "no_handler"


def test_a_job_that_is_well_waits_without_counting_a_try(chore):
    job = chore.promise()
    chore.fault = ports.Later(30)
    for _ in range(backoff.TRIES + 2):
        chore.run(job)
        row = Job.objects.get(pk=job)
        assert (row.state, row.attempts) == ("ready", 0)
        assert row.due_at > row.created_at + timedelta(seconds=20)
        chore.wait_out(job)


def test_news_have_a_waiting_job_look_at_once(chore):
    subject = uuid4()
    job = chore.promise(subject)
    chore.fault = ports.Later(30)
    chore.run(job)
    assert not chore.run(job)

    with transaction.atomic():
        queue.hasten(kind="test.chore", subject_id=subject)

    assert chore.run(job)


def test_news_that_come_while_a_job_runs_have_it_look_again(chore):
    subject = uuid4()
    job = chore.promise(subject)

    def handler(subject_id, run):
        with transaction.atomic():
            queue.hasten(kind="test.chore", subject_id=subject_id)
        raise ports.Later(30)

    chore.fault = None
    running._handlers["test.chore"] = handler
    chore.run(job)

    assert queue.due(ring_again=timedelta(0)) == [job]
    assert not Job.objects.get(pk=job).is_hasty


def test_news_are_no_decision_of_a_person_about_a_held_job(chore):
    subject = uuid4()
    job = chore.promise(subject)
    chore.fault = ports.NeedsPerson("intake", "Paste the value.")
    chore.run(job)

    with transaction.atomic():
        queue.hasten(kind="test.chore", subject_id=subject)

    assert state(job) == "held"


def test_waits_double_and_stay_below_their_ceiling():
    ceilings = [backoff.ceiling(attempts).total_seconds() for attempts in range(1, 10)]
    assert ceilings == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    for attempts in range(1, 7):
        for _ in range(50):
            assert timedelta() <= backoff.delay(attempts) <= backoff.ceiling(attempts)


def test_a_second_handler_for_a_kind_is_refused():
    with pytest.raises(ValueError, match="two handlers"):
        queue.handler("request.execute")(lambda _subject_id, _run: None)


def test_r20_a_message_for_a_request_that_is_not_approved_only_writes_an_event(house):
    request = house.ask()
    with transaction.atomic():
        job = queue.enqueue(kind="request.execute", subject_id=request.pk)
    tasks.run_job(job)
    request.refresh_from_db()
    assert (request.state, house.world.ran) == ("pending", [])
    event = Event.objects.get(event="job.refused")
    assert (event.request_id, event.fields["cause"]) == (request.pk, "pending")


@pytest.mark.parametrize("argument", [True, "1", None, -5, 10**12, [1]])
def test_r20_a_message_with_anything_but_a_due_job_does_nothing(house, argument):
    tasks.run_job(argument)
    assert not Event.objects.filter(event__startswith="job.").exists()


def test_r20_a_job_for_a_request_that_does_not_exist_only_writes_an_event(house):
    with transaction.atomic():
        job = queue.enqueue(kind="request.execute", subject_id=uuid4())
    tasks.run_job(job)
    assert Event.objects.get(event="job.refused").fields["cause"] == "unknown"


def test_r58_every_message_five_times_is_one_execution(house):
    request = house.approved()
    for _ in range(5):
        tasks.run_job(house.job(request).pk)
    request.refresh_from_db()
    assert (request.state, house.world.ran) == ("done", [request.pk])


def test_a_try_that_fails_is_repeated_without_rendering_the_plan_again(house):
    request = house.approved()
    house.world.fault = ports.Unfinished("down", "The server is down.")
    assert house.work(request).state == "executing"
    rendered = house.world.rendered
    house.world.fault, house.world.colour = None, "yellow"
    Job.objects.filter(pk=house.job(request).pk).update(due_at=Now())
    assert house.work(request).state == "done"
    assert house.world.rendered == rendered


def test_what_can_never_succeed_fails_with_its_reason_and_gives_back(house):
    request = house.approved()
    house.world.fault = ports.CannotExecute("gone", "The wall was torn down.")
    assert house.work(request).state == "failed"
    assert request.end_sentence == "The wall was torn down."
    assert house.world.closed == [(request.pk, "failed")]


def test_an_approval_that_is_too_old_does_not_start(house):
    request = house.approved()
    assert house.work(request, now=house.later(days=2)).end_code == "stale_approval"


def test_r16_a_person_who_left_the_group_before_execution_takes_the_vote_along(house):
    request = house.approved()
    people.leave(house.cast.carol, "payments", now=house.now)
    assert house.work(request).end_code == "approver_lost"


def test_a_sealed_server_does_not_start_anything(house):
    request = house.approved()
    ports.bind(
        recorder=ports.recorder(),
        signer=None,
        directory=ports.directory(),
        presence=ports.presence(),
    )
    assert house.work(request).state == "approved"
    assert Job.objects.get(pk=house.job(request).pk).state == "ready"


def test_withdrawing_beats_a_worker_that_comes_later(house):
    request = house.approved()
    services.withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)
    house.work(request)
    assert (request.state, house.world.ran) == ("withdrawn", [])


def test_the_oldest_due_job_tells_whether_workers_live(chore):
    assert queue.oldest_due_at() is None
    job = chore.promise()
    assert queue.oldest_due_at() == Job.objects.get(pk=job).due_at


def test_solo_mode_lets_the_only_administrator_act_outside_prod_and_records_it(house, monkeypatch):
    monkeypatch.setattr(Directory, "solo", lambda _self: True)
    request = house.ask(house.cast.frank, environment="dev")
    assert house.say(house.cast.frank, request).solo
    assert house.work(Request.objects.get(pk=request.pk)).state == "done"
    prod = house.ask(house.cast.frank, environment="prod")
    with pytest.raises(Exception, match="You asked for this"):
        house.say(house.cast.frank, prod)


def test_leaving_solo_mode_before_execution_stops_what_was_decided_alone(house, monkeypatch):
    monkeypatch.setattr(Directory, "solo", lambda _self: True)
    request = house.ask(house.cast.frank, environment="dev")
    house.say(house.cast.frank, request)
    monkeypatch.setattr(Directory, "solo", lambda _self: False)
    assert house.work(Request.objects.get(pk=request.pk)).end_code == "approver_lost"
