"""Renewals of an admin credential: asked, begun, decided about, overtaken, and kept apart."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from approvals import queue
from approvals.models import Job, Request
from approvals.ports import CannotExecute, Later, LostClaim, NotVisible, Unfinished
from keyvault.actions import about_keys, renew_connection
from keyvault.actions.renew_connection import RenewConnection
from keyvault.audit.models import Event
from keyvault.connections import context, renewals, renewals_due, renewing, services, turns
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection, Renewal
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import Shape
from keyvault.vault.models import Sealed
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import After, Claims
from tests.keyvault.vault.rows import WORKER
from tests.races import Racer, await_somebody_waiting

pytestmark = pytest.mark.django_db(transaction=True)

PATIENCE_S = 30


@pytest.fixture
def fake(_registry):
    return fakes.install(fakes.Renews())


@pytest.fixture
def _policies(now):
    rules.DEFAULTS.put(now)


@pytest.fixture
def begin(where, now):
    def call():
        with transaction.atomic():
            return renewals.begin(
                connection_id=where.pk,
                request_id=uuid4(),
                started_by="Frank",
                actor=WORKER,
                now=now,
            )

    return call


@pytest.fixture
def ask(cast, where, now, _policies):
    return lambda: renew_connection.ask(
        person=cast.frank, slug="orders", reason="It is old.", now=now
    )


def run(renewal, now, claims=None):
    """Try once, as a worker would."""
    made = (claims or Claims(now, renewal.pk)).claim()
    made.kind = renewals.JOB
    renewing.run(renewal.pk, made)
    renewal.refresh_from_db()


def patiently(renewal, run):
    """Try as often as others have their turn first, as the queue does."""
    while True:
        try:
            renewing.run(renewal.pk, run)
        except Later:
            continue
        return


def by_hand(where, now, **more):
    """Let a person put another credential in place, as an approved change does."""
    proposal = uuid4()
    with transaction.atomic():
        mark = services.propose(
            proposal_id=proposal, credential={"password": "typed-by-hand"}, now=now
        )
        services.change(
            connection_id=where.pk,
            draft=Draft(slug="orders", title="Orders", provider="fake", config=where.config),
            fingerprint=mark,
            proposal_id=proposal,
            base_revision=Connection.objects.get().revision,
            request_id=uuid4(),
            actor=WORKER,
            now=now,
            **more,
        )


# Asked and begun.


def test_a_renewal_is_asked_and_another_administrator_decides(ask, where, cast):
    request = ask()

    assert request.state == "pending"
    plan = request.plan
    assert "kv_admin" not in str(request.payload)
    fields = {row["field"] for row in plan["changes"]}
    assert fields >= {"Admin credential (fingerprint)", "Environment"}
    assert "locked out" in plan["breaks"][0]
    assert not Renewal.objects.exists()


def test_executing_begins_one_renewal_however_often(ask, now):
    request = ask()
    action = RenewConnection.from_payload(request.payload)

    for _ in range(2):
        action.execute(request_id=request.pk, run=Claims(now).claim())

    renewal = Renewal.objects.get()
    assert (renewal.number, renewal.state, renewal.request_id) == (2, "planned", request.pk)
    assert queue.newest(kind=renewals.JOB, subject_id=renewal.pk)[0] == "ready"
    assert Event.objects.filter(event="renewal.started").count() == 1


def test_an_approval_of_before_renews_no_later_credential(ask, where, now):
    request = ask()
    by_hand(where, now)
    action = RenewConnection.from_payload(request.payload)

    with pytest.raises(CannotExecute, match="replaced meanwhile"):
        action.execute(request_id=request.pk, run=Claims(now).claim())


def test_an_approval_renews_no_credential_that_came_as_it_was_carried_out(ask, where, now):
    request = ask()
    action = RenewConnection.from_payload(request.payload)

    with transaction.atomic():
        Connection.objects.select_for_update().get()
        racer = Racer(
            lambda: action.execute(request_id=request.pk, run=Claims(now, request.pk).claim())
        )
        await_somebody_waiting()
        Connection.objects.update(credential_number=2)

    with pytest.raises(CannotExecute, match="replaced meanwhile"):
        racer.finish()
    assert not Renewal.objects.exists()


def test_a_second_one_is_refused_while_one_is_asked_or_open(ask, begin, now):
    ask()
    with pytest.raises(about_keys.AlreadyAsked):
        ask()
    Request.objects.update(state="withdrawn", ended_at=now)
    begin()

    with pytest.raises(renewals.NotRenewable, match="already"):
        ask()
    with pytest.raises(renewals.NotRenewable, match="already"):
        begin()


def test_a_provider_that_cannot_is_told_so(cast, where, begin):
    fakes.install(fakes.Fake())

    with pytest.raises(renewals.NotRenewable, match="by hand"):
        begin()
    with pytest.raises(renewals.NotRenewable, match="by hand"):
        renew_connection.plan(person=cast.frank, slug="orders")


# Held and decided.


def test_a_failure_that_needs_a_person_is_held_and_retried_by_one(fake, begin, where, now):
    fake.problem = "The admin may not create users."
    renewal = begin()
    claims = Claims(now, renewal.pk)
    with pytest.raises(Unfinished, match="may not create users"):
        run(renewal, now, claims)
    last = claims.claim()
    last.is_last = True
    renewing.run(renewal.pk, last)

    renewal.refresh_from_db()
    assert (renewal.state, renewal.held_at is not None) == ("planned", True)
    assert "may not create users" in Finding.objects.get(closed_at=None).sentence
    fake.problem = ""
    renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
    run(renewal, now)

    assert renewal.state == "done"
    assert not Finding.objects.filter(closed_at=None).exists()
    assert Event.objects.filter(event="renewal.resumed").count() == 1


def test_a_refusal_of_the_first_call_leaves_no_candidate(fake, begin, where, now):
    fake.fail("create_admin", base.Denied("The right is missing."))
    renewal = begin()

    run(renewal, now)

    assert (renewal.state, renewal.attempt) == ("planned", 2)
    assert renewal.held_at is not None
    assert Sealed.objects.count() == 1
    renewals.stop(connection_id=where.pk, actor=WORKER, now=now)
    renewal.refresh_from_db()
    assert (renewal.state, renewal.held_at) == ("failed", None)
    assert fake.taken == {b"admin-canary"}


def test_what_may_have_been_called_is_not_stopped(fake, begin, where, now):
    fake.fail("create_admin", After(base.Ambiguous("lost")))
    renewal = begin()
    claims = Claims(now, renewal.pk)
    last = claims.claim()
    last.is_last = True
    renewing.run(renewal.pk, last)

    with pytest.raises(renewals.WrongMoment, match="tried again"):
        renewals.stop(connection_id=where.pk, actor=WORKER, now=now)


def test_nothing_is_decided_about_what_is_at_work(begin, where, now):
    with pytest.raises(NotVisible):
        renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
    begin()

    for act in (renewals.try_again, renewals.stop):
        with pytest.raises(renewals.WrongMoment, match="at work"):
            act(connection_id=where.pk, actor=WORKER, now=now)


def test_the_old_one_is_kept_until_the_provider_refuses_it(fake, begin, where, now):
    fake.revoke_admin = lambda ctx, old: None
    renewal = begin()

    with pytest.raises(Unfinished, match="should refuse"):
        run(renewal, now)

    renewal.refresh_from_db()
    assert renewal.state == "in_use"
    assert Sealed.objects.count() == 2


@pytest.mark.parametrize("shape", [Shape.MULTI, Shape.REPLACE])
def test_the_old_one_is_ended_only_after_a_check_with_the_new_one(fake, begin, now, shape):
    fake.admin_shape = shape
    renewal = begin()
    run(renewal, now)

    calls = fake.calls
    assert "check" in calls[calls.index("create_admin") : calls.index("revoke_admin")]


def test_a_credential_of_another_account_is_not_put_in_use(fake, begin, where, now):
    renewal = begin()
    claims = Claims(now, renewal.pk)
    claims.hooks["renew:called"] = lambda: setattr(fake, "account", "somebody else")

    run(renewal, now, claims)

    assert renewal.held_at is not None
    assert "another account" in renewal.sentence
    where.refresh_from_db()
    assert where.credential_number == 1


def test_a_server_that_takes_every_password_is_not_believed(fake, begin, now):
    fake._is_taken = lambda ctx: True
    renewal = begin()

    with pytest.raises(Unfinished, match="should refuse"):
        run(renewal, now)

    assert "create_admin" not in fake.calls


# Overtaken by hand.


def test_a_person_who_replaces_the_credential_ends_a_held_renewal(fake, begin, where, now):
    fake.problem = "Not ready."
    renewal = begin()
    last = Claims(now, renewal.pk).claim()
    last.is_last = True
    renewing.run(renewal.pk, last)

    by_hand(where, now)

    renewal.refresh_from_db()
    assert (renewal.state, renewal.sentence) == ("failed", "The credential was replaced by hand.")
    assert Sealed.objects.count() == 1
    assert not Finding.objects.filter(closed_at=None).exists()
    where.refresh_from_db()
    assert where.credential_at == now


@pytest.mark.parametrize("point", ["renew:announced", "renew:in_use"])
def test_one_that_is_at_work_is_waited_for(fake, begin, where, now, point):
    renewal = begin()
    with pytest.raises(fakes.Crash):
        renewing.run(renewal.pk, Claims(now, renewal.pk).claim(crash_at=point))

    with pytest.raises(renewals.Busy):
        by_hand(where, now)

    run(renewal, now)
    assert renewal.state == "done"


def test_one_that_is_just_tried_again_is_waited_for(fake, begin, where, now):
    """Otherwise its job calls the provider after the credential was replaced, and locks it out."""
    renewal = begin()
    with pytest.raises(fakes.Crash):
        renewing.run(renewal.pk, Claims(now, renewal.pk).claim(crash_at="renew:announced"))
    with transaction.atomic():
        renewals.hold(renewal, "For the test.", now=now)

    with transaction.atomic():
        renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
        racer = Racer(lambda: by_hand(where, now))
        await_somebody_waiting()

    with pytest.raises(renewals.Busy):
        racer.finish()
    renewal.refresh_from_db()
    assert renewal.state == "calling"


@pytest.mark.parametrize("point", ["renew:announced", "renew:in_use"])
def test_a_held_one_leaves_nothing_sealed_when_it_is_replaced(fake, begin, where, now, point):
    renewal = begin()
    with pytest.raises(fakes.Crash):
        renewing.run(renewal.pk, Claims(now, renewal.pk).claim(crash_at=point))
    with transaction.atomic():
        renewals.hold(renewal, "For the test.", now=now)

    by_hand(where, now)

    where.refresh_from_db()
    assert list(Sealed.objects.values_list("number", flat=True)) == [where.credential_number]


def test_a_change_of_the_title_does_not_disturb_a_renewal(fake, begin, where, now):
    renewal = begin()
    claims = Claims(now, renewal.pk)
    claims.hooks["renew:called"] = lambda: Connection.objects.update(title="Other", revision=2)

    run(renewal, now, claims)

    where.refresh_from_db()
    assert (where.credential_number, where.revision) == (2, 2)


def test_a_new_credential_never_goes_with_settings_of_before(where, now):
    """Whoever has read the Connection before both have changed reads it again."""
    stale = Connection.objects.get()
    by_hand(where, now)

    with (
        pytest.raises(Unfinished, match="read again"),
        context.reach(stale, actor=WORKER, now=now, purpose="test"),
    ):
        pass


def test_whoever_has_read_it_before_a_renewal_has_the_new_one(fake, begin, where, now):
    stale = Connection.objects.get()
    run(begin(), now)

    with context.reach(stale, actor=WORKER, now=now, purpose="test") as reached:
        assert {reached.admin["password"].reveal()} == fake.taken


# Kept apart.


def test_the_database_keeps_one_open_renewal_of_a_connection(begin, where, now):
    begin()
    with pytest.raises(IntegrityError, match="renewal_one_open"), transaction.atomic():
        Renewal.objects.create(
            connection=where, request_id=uuid4(), started_by="x", number=2, created_at=now
        )


def test_two_who_begin_at_once_begin_one(begin):
    gate = threading.Barrier(2, timeout=PATIENCE_S)
    refused = []

    def both():
        gate.wait()
        try:
            begin()
        except renewals.NotRenewable as error:
            refused.append(error)

    racers = [Racer(both), Racer(both)]
    for racer in racers:
        racer.finish()

    assert len(refused) == 1
    assert Renewal.objects.count() == 1


def test_two_workers_make_one_credential(fake, begin, now):
    """One is overtaken in the middle of its call: the other waits its turn, and the fence decides."""
    renewal = begin()
    claims = Claims(now, renewal.pk)
    in_call, go_on = threading.Event(), threading.Event()
    lost = []

    def sleep():
        in_call.set()
        assert go_on.wait(PATIENCE_S)

    claims.hooks["renew:called"] = sleep

    def first():
        try:
            renewing.run(renewal.pk, claims.claim())
        except LostClaim as error:
            lost.append(error)

    racer = Racer(first)
    assert in_call.wait(PATIENCE_S)
    second = Racer(lambda: patiently(renewal, claims.claim()))
    await_somebody_waiting()
    go_on.set()
    racer.finish()
    second.finish()

    renewal.refresh_from_db()
    assert len(lost) == 1
    assert renewal.state == "done"
    assert len(fake.taken) == 1
    assert Event.objects.filter(event="renewal.moved", fields__state="in_use").count() == 1


def test_work_that_is_under_way_is_waited_for_and_what_comes_then_has_the_new_one(
    fake, begin, where, now
):
    renewal = begin()
    fake.admin_shape = Shape.REPLACE
    with context.reach(where, actor=WORKER, now=now, purpose="test") as reached:
        racer = Racer(lambda: patiently(renewal, Claims(now, renewal.pk).claim()))
        await_somebody_waiting()
        assert reached.admin["password"].reveal() in fake.taken
        # Whoever comes now lets the one go first that waits.
        assert not can_share(where)
    racer.finish()

    with context.reach(where, actor=WORKER, now=now, purpose="test") as reached:
        assert {reached.admin["password"].reveal()} == fake.taken


def can_share(where):
    """Say whether another session gets its share of the Connection at once."""
    found = []

    def look():
        found.append(turns._ask("SELECT pg_try_advisory_lock_shared(%s)", turns._lock(where.pk)))

    Racer(look).finish()
    return found[0]


def test_a_renewal_that_does_not_get_its_turn_comes_again(begin, where, now):
    renewal = begin()
    holding, go_on = threading.Event(), threading.Event()

    def hold():
        with context.reach(where, actor=WORKER, now=now, purpose="test"):
            holding.set()
            assert go_on.wait(PATIENCE_S)

    racer = Racer(hold)
    assert holding.wait(PATIENCE_S)
    with pytest.raises(Later):
        run(renewal, now)
    go_on.set()
    racer.finish()

    assert Renewal.objects.get().state == "planned"
    run(renewal, now)
    assert renewal.state == "done"


def test_the_database_ends_a_renewal_that_sleeps(begin, where):
    """The session that is alone may be idle only for as long as calls can take."""

    def limits():
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_session_timeout")
            return cursor.fetchone()[0]

    before = limits()
    with turns.alone(where.pk):
        assert limits() == "90s"
    assert limits() == before


# By cadence.


def old(where, now, **more):
    Connection.objects.filter(pk=where.pk).update(
        **{"renew_days": 30, "credential_at": now - timedelta(days=31), **more}
    )


def test_a_cadence_begins_what_is_old_enough_once(where, now):
    old(where, now)

    assert [renewals_due.run(now), renewals_due.run(now)] == [1, 0]

    renewal = Renewal.objects.get()
    assert renewal.started_by == "Schedule"
    run(renewal, now)
    where.refresh_from_db()
    assert where.credential_at == now
    assert renewals_due.run(now + timedelta(days=29)) == 0
    assert renewals_due.run(now + timedelta(days=31)) == 1


@pytest.mark.parametrize("more", [{"renew_days": None}, {"credential_at": None}])
def test_nothing_begins_unapproved_or_of_unknown_age(where, now, more):
    old(where, now, **more)

    assert renewals_due.run(now) == 0


def test_one_that_was_stopped_rests_for_a_day(fake, where, now):
    old(where, now)
    fake.fail("create_admin", base.Denied("No."))
    renewals_due.run(now)
    run(Renewal.objects.get(), now)
    renewals.stop(connection_id=where.pk, actor=WORKER, now=now)

    assert renewals_due.run(now + timedelta(hours=23)) == 0
    assert renewals_due.run(now + timedelta(hours=25)) == 1


def test_a_job_that_was_given_up_holds_its_renewal_and_a_lost_one_is_rung_for(begin, where, now):
    renewal = begin()
    Job.objects.filter(subject_id=renewal.pk).delete()
    renewals_due.run(now)
    assert Job.objects.filter(subject_id=renewal.pk, state="ready").count() == 1

    Job.objects.filter(subject_id=renewal.pk).update(
        state="held", sentence="The worker died.", ended_at=now
    )
    renewals_due.run(now)

    renewal.refresh_from_db()
    assert renewal.sentence == "The worker died."
    renewals.try_again(connection_id=where.pk, actor=WORKER, now=now)
    assert Job.objects.filter(subject_id=renewal.pk, state="ready").count() == 1


# What is never shown.


def test_no_line_and_no_row_holds_a_value(fake, begin, where, now, caplog):
    fake.fail("create_admin", RuntimeError("fails with admin-canary"))
    renewal = begin()
    with pytest.raises(Unfinished):
        run(renewal, now)
    run(renewal, now)

    words = [b"admin-canary", *fake.taken]
    kept = repr([list(Event.objects.values()), list(Renewal.objects.values())]) + caplog.text
    kept += repr(list(Job.objects.values())) + repr(list(Finding.objects.values()))
    assert not [word for word in words if word.decode() in kept]


def test_a_stranger_to_the_protocol_is_held(begin, now):
    renewal = begin()
    fakes.install(fakes.Fake())

    run(renewal, now)

    assert renewal.held_at is not None


@pytest.mark.parametrize("change", [{"renew_days": None}, {"credential_number": 2}])
def test_what_changed_since_the_clock_looked_is_not_begun(fake, where, now, change):
    Connection.objects.update(renew_days=1, credential_at=now - timedelta(days=2))
    [seen] = renewals_due._due(now)
    Connection.objects.update(**change)

    assert not renewals_due._begin(seen, now)

    assert not Renewal.objects.exists()
