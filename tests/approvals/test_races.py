"""Races on PostgreSQL: threads released by one barrier, each with its own connection."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections, transaction
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from approvals import ports, queue, relay, services, tasks
from approvals.models import Decision, Job, Request
from approvals.queue import running
from keyvault.audit.models import Event
from tests import cast as people

pytestmark = pytest.mark.django_db(transaction=True)

EXPECTED = (
    services.Closed,
    services.Stale,
    services.NotEligible,
    ports.NotVisible,
    ports.NotPresent,
)


def together(*acts):
    """Run every act in a thread of its own, all released at once; return what each came to."""
    barrier = threading.Barrier(len(acts))
    results = [None] * len(acts)

    def run(index, act):
        try:
            barrier.wait(60)
            results[index] = ("ok", act())
        except EXPECTED as error:
            results[index] = (type(error).__name__, error)
        except Exception as error:  # noqa: BLE001 - shown by the assertion below.
            results[index] = ("fault", error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    faults = [result for kind, result in results if kind == "fault"]
    assert not faults, faults[:3]
    return results


def in_batches(acts, size=30):
    """Run many acts, `size` at a time: the test database has fewer connections than 300."""
    results = []
    for start in range(0, len(acts), size):
        results += together(*acts[start : start + size])
    return results


def events(request, *names):
    rows = Event.objects.filter(request_id=request.pk, event__in=names)
    return list(rows.values_list("event", flat=True))


def test_r17_300_approvals_by_three_people_make_one_execution(house):
    people.join(house.cast.grace, "security", now=house.now - timedelta(days=2))
    request = house.ask()
    voters = [house.cast.bob, house.cast.carol, house.cast.grace]
    proofs = {user.pk: [house.proof(user, request) for _ in range(100)] for user in voters}

    def approve(user, proof):
        return lambda: house.say(user, request, proof_id=proof).pk

    acts = [
        approve(user, proof)
        for n in range(100)
        for user in voters
        for proof in [proofs[user.pk][n]]
    ]
    results = in_batches(acts)
    kinds = Counter(kind for kind, _ in results)
    assert set(kinds) <= {"ok", "Closed", "NotEligible", "NotVisible"}, kinds
    assert Decision.objects.count() <= 3
    assert Job.objects.filter(kind="request.execute").count() == 1
    job = house.job(request).pk
    together(*[lambda: tasks.run_job(job)] * 10)
    request.refresh_from_db()
    assert (request.state, house.world.ran) == ("done", [request.pk])
    assert len(events(request, "request.decided")) == Decision.objects.count()
    assert events(request, "request.executing", "request.done") == [
        "request.executing",
        "request.done",
    ]


def test_r17_300_posts_over_http_are_recorded_idempotent_or_409(house, client_for):
    people.join(house.cast.grace, "security", now=house.now - timedelta(days=2))
    request = house.ask()
    voters = [house.cast.bob, house.cast.carol, house.cast.grace]
    clients = {user.pk: [client_for(user) for _ in range(10)] for user in voters}
    url = reverse("request-decide", args=[request.pk])

    def send(user, client):
        proof = house.proof(user, request)
        body = {"verdict": "approve", "plan_digest": request.plan_digest, "proof_id": proof}
        return lambda: client.post(url, body).status_code

    acts = [send(user, clients[user.pk][n % 10]) for n in range(100) for user in voters]
    statuses = Counter(status for _, status in in_batches(acts))
    assert set(statuses) <= {302, 403, 404, 409}, statuses
    assert Decision.objects.count() <= 3
    assert Job.objects.filter(kind="request.execute").count() == 1
    house.work(request)
    assert house.world.ran == [request.pk]


@pytest.mark.parametrize("other", ["reject", "withdraw", "expire", "edit"])
@pytest.mark.parametrize("_round", range(4))
def test_r17_approve_racing_another_end_has_one_winner(house, other, _round):
    request = house.ask()
    house.say(house.cast.carol, request)
    proof = house.proof(house.cast.bob, request)
    late = house.later(hours=24)
    rivals = {
        "reject": lambda: house.say(house.cast.grace, request, "reject"),
        "withdraw": lambda: services.withdraw(
            request_id=request.pk, person=house.cast.alice, now=house.now
        ),
        "expire": lambda: services.expire(now=late),
        "edit": lambda: house.edit(request, colour="blue"),
    }
    if other == "reject":
        people.join(house.cast.grace, "security", now=request.created_at)
    together(lambda: house.say(house.cast.bob, request, proof_id=proof), rivals[other])
    request.refresh_from_db()
    ends = {
        "approved": "request.decided",
        "rejected": "request.decided",
        "withdrawn": "request.withdrawn",
        "expired": "request.expired",
        "pending": "request.revised",
    }
    last = Event.objects.filter(request_id=request.pk).order_by("at", "id").last()
    assert last.event == ends[request.state]
    if last.event == "request.decided":
        assert last.fields["state"] == request.state
    promised = Job.objects.filter(kind="request.execute", subject_id=request.pk).count()
    approved = Event.objects.filter(
        request_id=request.pk, event="request.decided", fields__state="approved"
    ).count()
    assert promised == approved
    if request.state == "withdrawn" and approved:
        house.work(request)
        assert house.world.ran == []


def test_a_withdrawal_racing_the_worker_has_one_winner(house):
    request = house.approved()
    job = house.job(request).pk
    together(
        lambda: tasks.run_job(job),
        lambda: services.withdraw(
            request_id=request.pk, person=house.cast.alice, now=timezone.now()
        ),
    )
    request.refresh_from_db()
    assert (request.state, len(house.world.ran)) in {("done", 1), ("withdrawn", 0)}


def test_one_job_is_claimed_by_one_of_twenty_workers(house, monkeypatch):
    ran = []
    monkeypatch.setitem(running._handlers, "test.chore", lambda subject, _run: ran.append(subject))
    with transaction.atomic():
        job = queue.enqueue(kind="test.chore", subject_id=uuid4())
    results = together(*[lambda: queue.run(job, worker="w", now=timezone.now())] * 20)
    assert Counter(won for _, won in results) == {True: 1, False: 19}
    assert len(ran) == 1


def test_promising_one_job_from_ten_transactions_makes_one(house):
    subject = uuid4()

    def promise():
        with transaction.atomic():
            return queue.enqueue(kind="test.chore", subject_id=subject)

    results = together(*[promise] * 10)
    assert len({job for _, job in results}) == 1
    assert Job.objects.filter(subject_id=subject).count() == 1


class Crash(BaseException):
    """Stand for kill -9: nothing in the code under test may catch it."""


@pytest.mark.parametrize("point", ["execute:claimed", "execute:acted"])
def test_a_worker_killed_between_two_steps_leaves_a_request_that_ends_well(
    house, monkeypatch, point
):
    request = house.approved()
    job = house.job(request).pk

    def crash(reached):
        if reached == point:
            raise Crash

    monkeypatch.setattr("approvals.queue.claims.crash_at", crash)
    with pytest.raises(Crash):
        tasks.run_job(job)
    monkeypatch.undo()
    tasks.run_job(job)
    request.refresh_from_db()
    assert request.state == "executing", "the dead worker's lease still holds"
    Job.objects.filter(pk=job).update(lease_until=Now())
    tasks.run_job(job)
    request.refresh_from_db()
    assert request.state == "done"
    assert set(house.world.ran) == {request.pk}
    assert events(request, "request.executing", "request.done") == [
        "request.executing",
        "request.done",
    ]


class Bell:
    """A queue server that can be well, dead, hung or forgetful."""

    def __init__(self):
        self.mode, self.messages = "well", []
        self.hung = threading.Event()

    def __call__(self, job_id):
        if self.mode == "dead":
            raise ConnectionError("refused")
        if self.mode == "hung":
            self.hung.wait(30)
        elif self.mode != "forgetful":
            self.messages.append(job_id)


@pytest.fixture
def bell(monkeypatch):
    bell = Bell()
    monkeypatch.setattr(relay, "PUBLISH_S", 0.2)
    rings = relay.Relay(publish=bell)
    yield bell, rings
    bell.hung.set()
    rings.close()


def finished(request, seconds=20):
    """Wait until a request is done."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        request.refresh_from_db()
        if request.state == "done":
            return True
        time.sleep(0.05)
    return False


def test_r59_a_due_job_is_rung_once_and_again_when_the_message_is_lost(house, bell, monkeypatch):
    server, rings = bell
    request = house.approved()
    job = house.job(request).pk
    server.mode = "forgetful"
    rings.tick()
    server.mode = "well"
    rings.tick()
    assert job not in server.messages
    monkeypatch.setattr(relay, "RING_AGAIN", relay.RING_AGAIN * 0)
    rings.tick()
    assert job in server.messages


@pytest.mark.parametrize("mode", ["dead", "hung"])
def test_r59_with_the_queue_server_gone_the_relay_does_the_work_itself(house, bell, mode):
    server, rings = bell
    server.mode = mode
    request = house.approved()
    started = time.monotonic()
    rings.tick()
    assert time.monotonic() - started < 20
    assert finished(request)
    assert house.world.ran == [request.pk]


def test_r59_a_job_that_no_worker_takes_is_done_by_the_relay(house, bell):
    _, rings = bell
    request = house.approved()
    Job.objects.update(due_at=Now() - relay.OVERDUE * 2)
    rings.tick()
    assert finished(request)


def test_r59_a_tick_while_a_message_hangs_costs_no_time(house, bell):
    server, rings = bell
    server.mode = "hung"
    house.approved(wall="one")
    rings.tick()
    house.approved(wall="two")
    started = time.monotonic()
    rings.tick()
    assert time.monotonic() - started < 20


def test_the_relay_wakes_when_a_job_is_promised(house, bell):
    _, rings = bell
    woken = []

    def sleep():
        started = time.monotonic()
        rings.wait(10)
        woken.append(time.monotonic() - started)
        connections.close_all()

    thread = threading.Thread(target=sleep)
    thread.start()
    time.sleep(0.5)
    house.ask()
    thread.join(12)
    assert woken[0] < 5


def test_two_relays_at_once_run_every_job_once(house, bell):
    server, first = bell
    server.mode = "dead"
    second = relay.Relay(publish=server)
    requests = [house.approved(wall=str(n)) for n in range(4)]
    together(first.tick, second.tick, first.tick, second.tick)
    for request in requests:
        until = time.monotonic() + 20
        while not finished(request, 0.2) and time.monotonic() < until:
            first.tick()
    second.close()
    assert sorted(house.world.ran) == sorted(request.pk for request in requests)
    assert Request.objects.filter(state="done").count() == 4
