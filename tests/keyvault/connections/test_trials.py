"""Test runs of a Connection: what each of them proves, how it fails, and that it ends what it made."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from approvals.models import Job
from approvals.ports import Later, LostClaim, Unfinished
from keyvault.audit.models import Event
from keyvault.connections import reconcile, renewals, trial_work, trials, trying, turns
from keyvault.connections.comparing import Standing
from keyvault.connections.models import Connection, Trial
from keyvault.crypto import keyring
from keyvault.crypto.secret import Secret
from keyvault.findings.models import Finding
from keyvault.providers import base, registry
from keyvault.providers.base import Problem, Recovery, Shape, Verdict
from keyvault.vault.models import Sealed
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import After, Claims
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER
from tests.races import Racer, await_somebody_waiting

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_S = 30


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(trial_work, "PATIENCE_S", 0.0)
    monkeypatch.setattr(trial_work, "PAUSE_S", 0.01)


@pytest.fixture
def begin(where, now):
    def call():
        with transaction.atomic():
            return trials.begin(
                connection_id=where.pk,
                request_id=uuid4(),
                started_by="Frank",
                options={"login_prefix": "test"},
                actor=WORKER,
                now=now,
            )

    return call


def work(trial, now, *, claims=None, is_last=False, **more):
    """Try once, as the worker of its request would; return the row as it is then."""
    run = (claims or Claims(now, trial.request_id)).claim(**more)
    run.is_last = is_last
    try:
        trying.work_on(trials.of_request(trial.request_id), run)
    finally:
        trial.refresh_from_db()
    return trial


def told(trial):
    return [(step["step"], step["outcome"]) for step in trial.steps]


# What it proves.


def test_it_makes_tries_and_ends_one_credential(fake, begin, now):
    trial = work(begin(), now)

    assert (trial.state, trial.left_behind) == ("passed", "")
    assert told(trial) == [
        (name, "ok")
        for name in (
            "check",
            "prepare",
            "create",
            "validate",
            "find",
            "revoke",
            "refuse",
            "gone",
        )
    ]
    assert len(fake.keys) == 1
    assert fake.alive() == []
    assert fake.calls.count("create") == 1
    opened = Event.objects.get(event="secret.opened")
    assert opened.fields["purpose"] == "test run"
    assert Event.objects.filter(event="trial.stepped").count() == 8
    assert not Finding.objects.exists()


def test_what_the_check_finds_stops_it_before_anything_is_made(fake, begin, now, monkeypatch):
    problem = Problem("The admin may not create users.", "Grant it.")
    monkeypatch.setattr(fake, "check", lambda ctx: [problem], raising=False)

    trial = work(begin(), now)

    assert trial.state == "failed"
    assert trial.sentence == "The admin may not create users. Grant it."
    assert "create" not in fake.calls
    assert not Finding.objects.exists()


@pytest.mark.parametrize("error", [base.Denied, base.Conflict, base.Misconfigured, base.NotFound])
@pytest.mark.parametrize("method", ["prepare", "create"])
def test_a_refusal_fails_it_and_leaves_nothing(fake, begin, now, error, method):
    fake.fail(method, error("Mend this."))

    trial = work(begin(), now)

    assert (trial.state, trial.sentence) == ("failed", "Mend this.")
    assert fake.keys == {}
    assert not Finding.objects.exists()


@pytest.mark.parametrize("verdict", [Verdict.INVALID, Verdict.UNKNOWN])
def test_a_credential_that_is_not_proved_to_work_is_ended(fake, begin, now, verdict):
    fake.verdict = verdict

    trial = work(begin(), now)

    assert trial.state == "failed"
    assert told(trial)[-2:] == [("validate", "failed"), ("clean", "ok")]
    assert fake.alive() == []
    assert not Finding.objects.exists()


def test_one_that_is_not_listed_fails_it(fake, begin, now, monkeypatch):
    monkeypatch.setattr(fake, "find", lambda ctx, attempt: [], raising=False)

    trial = work(begin(), now)

    assert "does not list it" in trial.sentence
    assert fake.alive() == []


def test_one_that_works_after_its_end_is_told(fake, begin, now):
    fake.verdict = Verdict.VALID

    trial = work(begin(), now)

    assert trial.state == "failed"
    assert "works on" in trial.sentence
    # The next look would find nothing listed, and close what is not settled.
    assert Finding.objects.get(closed_at=None).kind == "unanswered"
    assert trial.left_behind == Finding.objects.get().detail


def test_one_that_the_provider_lists_on_is_told(fake, begin, now, monkeypatch):
    calls = fake.find
    monkeypatch.setattr(
        fake,
        "find",
        lambda ctx, attempt: calls(ctx, attempt) or list(fake.keys.values()),
        raising=False,
    )

    trial = work(begin(), now)

    assert "lists it as before" in trial.sentence


def test_it_waits_as_long_as_the_provider_says(fake, begin, now, monkeypatch):
    """A new credential is not known everywhere at once, and neither is its end."""
    monkeypatch.setattr(
        fake,
        "capabilities",
        lambda ctx: base.Capabilities(
            Shape.MULTI, Recovery.CLIENT, settle_s=PATIENCE_S, revoke_lag_s=PATIENCE_S
        ),
    )
    honest, looks = fake.validate, []

    def late(ctx, issued):
        looks.append(time.monotonic())
        found = honest(ctx, issued)
        if len(looks) in {1, 2, 4, 5}:
            return base.Validation({"valid": Verdict.INVALID}.get(found.verdict, Verdict.VALID))
        return found

    monkeypatch.setattr(fake, "validate", late)

    trial = work(begin(), now)

    assert trial.state == "passed"
    assert len(looks) == 6


# Lost answers and other workers.


@pytest.mark.parametrize("recovery", [Recovery.CLIENT, Recovery.TAGGED, Recovery.DIFF])
def test_after_a_lost_answer_what_is_there_is_ended_and_it_begins_anew(fake, begin, now):
    fake.fail("create", After(base.Ambiguous("No answer.")))
    trial = begin()
    with pytest.raises(Unfinished, match="No answer"):
        work(trial, now)
    assert len(fake.alive()) == 1
    assert trial.state == "calling"

    work(trial, now)

    assert (trial.state, trial.attempt, len(trial.tags)) == ("passed", 2, 2)
    assert ("create", "again") in told(trial)
    assert ("clean", "ok") in told(trial)
    assert "The attempt before had left" in str(trial.steps)
    assert fake.alive() == []


@pytest.mark.parametrize("recovery", [Recovery.NONE])
def test_where_nobody_can_say_what_was_made_a_person_is_told(fake, begin, now, recovery):
    fake.fail("create", After(base.Ambiguous("No answer.")))
    trial = begin()
    with pytest.raises(Unfinished):
        work(trial, now)

    work(trial, now)

    assert (trial.state, trial.left_behind) == ("failed", trial.tags[-1])
    finding = Finding.objects.get(closed_at=None)
    assert (finding.kind, finding.detail) == ("unanswered", trial.tags[-1])
    assert fake.calls.count("create") == 1


def test_a_provider_that_is_away_is_told_of_at_the_last_try(fake, begin, now, where):
    fake.fail("revoke", *[base.Ambiguous("Away.")] * 9)
    trial = begin()

    work(trial, now, is_last=True)

    assert trial.state == "failed"
    assert "Away." in trial.sentence
    finding = Finding.objects.get(closed_at=None)
    assert (finding.kind, finding.detail) == ("orphan", trial.left_behind)
    assert Connection.objects.get().inventory_due_at <= now + timedelta(seconds=60)
    fake.faults = {}
    reconcile.look(where.pk, Claims(now).claim())
    assert fake.alive() == []
    assert not Finding.objects.filter(closed_at=None).exists()


def test_what_arrives_late_is_ended_by_the_inventory_and_is_no_stranger(fake, begin, where, now):
    """A worker sleeps before its call; the test run is given up; the call is made all the same."""
    trial, claims = begin(), Claims(now)

    def given_up():
        with transaction.atomic():
            trials.give_up(trials.of_request(trial.request_id), "The worker died.", now=now)

    claims.hooks["try:announced"] = given_up
    honest = fake.revoke
    fake.revoke = lambda ctx, key, **more: None
    work(trial, now, claims=claims)
    fake.revoke = honest
    assert len(fake.alive()) == 1
    assert trial.state == "failed"

    reconcile.look(where.pk, Claims(now).claim())

    assert fake.alive() == []
    orphan = Finding.objects.get(detail=f"id-{trial.tags[-1]}")
    assert orphan.closing == "It was revoked at the provider."
    assert Event.objects.filter(event="connection.orphan_revoked").count() == 1


def test_whoever_wakes_up_late_ends_what_it_made_itself(fake, begin, now):
    trial, claims = begin(), Claims(now)

    def given_up():
        with transaction.atomic():
            trials.give_up(trials.of_request(trial.request_id), "The worker died.", now=now)

    claims.hooks["try:announced"] = given_up

    work(trial, now, claims=claims)

    assert len(fake.keys) == 1
    assert fake.alive() == []


def test_an_open_one_is_left_alone_by_the_inventory(fake, begin, where, now):
    trial, claims, seen = begin(), Claims(now), []

    def look():
        tag = Trial.objects.get().tags[-1]
        seen.append(trials.standings(where.pk, [tag, "kv-00000000-1"]))
        reconcile.look(where.pk, Claims(now).claim())
        seen.append(len(fake.alive()))

    claims.hooks["try:called"] = look

    work(trial, now, claims=claims)

    assert seen == [{trial.tags[-1]: Standing.IN_FLIGHT}, 1]
    assert trial.state == "passed"
    assert trials.standings(where.pk, trial.tags) == {trial.tags[-1]: Standing.OVER}
    assert not Finding.objects.exists()


def test_only_the_newest_attempt_is_on_its_way(fake, begin, where, now):
    trial = begin()
    fake.fail("create", base.Ambiguous("Lost."))
    with pytest.raises(Unfinished):
        work(trial, now)
    claims, seen = Claims(now), []
    claims.hooks["try:called"] = lambda: seen.append(
        trials.standings(where.pk, Trial.objects.get().tags)
    )

    work(trial, now, claims=claims)

    first, second = trial.tags
    assert seen == [{first: Standing.OVER, second: Standing.IN_FLIGHT}]


@pytest.mark.parametrize("recovery", [Recovery.DIFF])
def test_a_key_that_came_meanwhile_is_never_ended_as_a_remnant(fake, key, begin, now):
    """Where only its age tells it from others, a key of the inventory is left out."""
    version = rows.live_version(key, uuid4(), now, remote_id="id-9")
    trial = begin()
    fake.fail("create", base.Ambiguous("Lost."))
    with pytest.raises(Unfinished):
        work(trial, now)
    fake.keys["id-9"] = base.RemoteKey(version.remote_id, tag=trial.tags[-1], is_enabled=True)

    work(trial, now)

    assert [one.remote_id for one in fake.alive()] == ["id-9"]


# Kept apart.


def test_two_who_begin_at_once_begin_one(begin):
    gate, refused = threading.Barrier(2, timeout=PATIENCE_S), []

    def both():
        gate.wait()
        try:
            begin()
        except trials.NotTriable as error:
            refused.append(error)

    racers = [Racer(both), Racer(both)]
    for racer in racers:
        racer.finish()

    assert len(refused) == 1
    assert Trial.objects.count() == 1


def test_the_database_keeps_one_open_of_a_connection(begin, where, now):
    begin()
    with pytest.raises(IntegrityError, match="trial_one_open"), transaction.atomic():
        Trial.objects.create(connection=where, request_id=uuid4(), started_by="x", created_at=now)


def test_it_and_a_renewal_wait_for_each_other(fake, begin, where, now):
    trial, claims = begin(), Claims(now)
    waited = []

    def renew():
        try:
            with turns.alone(where.pk):
                pass
        except Unfinished as stop:
            waited.append(stop.code)

    claims.hooks["try:called"] = lambda: Racer(renew).finish()
    work(trial, now, claims=claims)

    assert waited == ["busy"]
    assert trial.state == "passed"


def test_while_it_waits_its_turn_nothing_is_failed(fake, begin, where, now, monkeypatch):
    monkeypatch.setattr(turns, "_WAIT_S", 0.2)
    trial = begin()
    with turns.alone(where.pk):
        racer = Racer(lambda: work(trial, now, is_last=True))
        with pytest.raises(Later):
            racer.finish()

    assert (trial.state, trial.steps) == ("planned", [])


def test_a_worker_that_lost_its_job_writes_nothing_and_ends_what_it_made(fake, begin, now):
    trial, claims = begin(), Claims(now)
    claims.hooks["try:called"] = claims.claim

    with pytest.raises(LostClaim):
        work(trial, now, claims=claims)

    assert fake.alive() == []
    assert trial.state == "calling"


def test_the_clock_and_its_worker_end_it_once(fake, begin, now):
    trial = begin()
    with transaction.atomic():
        Connection.objects.select_for_update().get()
        row = Trial.objects.select_for_update().get()
        racer = Racer(lambda: trying.give_up(trial, "The worker.", Claims(now).claim()))
        await_somebody_waiting()
        trials.give_up(row, "The clock.", now=now)
    racer.finish()

    assert trial.sentence == "The clock."
    assert Event.objects.filter(event="trial.moved").count() == 1


# Begun and given up.


def test_none_begins_beside_a_renewal(begin, where, now):
    fakes.install(fakes.Renews())
    with transaction.atomic():
        renewals.begin(
            connection_id=where.pk, request_id=uuid4(), started_by="F", actor=WORKER, now=now
        )

    with pytest.raises(trials.NotTriable, match="being renewed"):
        begin()


@pytest.mark.parametrize("make", [fakes.Paste, None])
def test_where_nothing_can_be_tried_the_mend_is_said(where, make):
    if make is None:
        registry._registry._loaded.pop(where.provider)
        assert "KEYVAULT_ALLOWED_PLUGINS" in trials.why_not(where)
    else:
        Connection.objects.update(provider=fakes.install(make()).kind)
        assert "by hand" not in trials.why_not(where)
        assert "A person makes" in trials.why_not(Connection.objects.get())


def test_a_destination_is_told_apart(where):
    Connection.objects.update(provider="openbao")

    assert "destination" in trials.why_not(Connection.objects.get())


def test_one_whose_job_was_given_up_is_ended_by_the_clock(fake, begin, now):
    trial = begin()
    with pytest.raises(fakes.Crash):
        work(trial, now, crash_at="try:called")
    Job.objects.create(
        kind="request.execute",
        subject_id=trial.request_id,
        state="held",
        sentence="The worker died in every one of six tries.",
        ended_at=now,
    )

    assert trials.look_after(now) == 1

    trial.refresh_from_db()
    assert (trial.state, trial.left_behind) == ("failed", trial.tags[-1])
    assert trial.left_behind in Finding.objects.get(closed_at=None).sentence
    assert trials.look_after(now) == 0


def test_one_whose_job_runs_is_left_alone(begin, now):
    trial = begin()
    Job.objects.create(kind="request.tell", subject_id=trial.request_id, state="held", ended_at=now)

    assert trials.look_after(now) == 0


# What is never shown or kept.


def test_no_line_and_no_row_holds_a_value_and_memory_is_zeroed(fake, begin, now, caplog):
    kept: list[Secret] = []
    honest = fake.create

    def make(ctx, attempt):
        issued = honest(ctx, attempt)
        kept.extend(issued.material.values())
        kept.extend(attempt.material.values())
        return issued

    fake.create = make
    fake.fail("find", RuntimeError("fails with admin-canary"))
    trial = begin()
    with pytest.raises(Unfinished):
        work(trial, now)
    work(trial, now)

    written = repr([list(Event.objects.values()), list(Trial.objects.values())]) + caplog.text
    written += repr(list(Finding.objects.values()))
    values = [word.decode() for word in fake.values.values()] + ["admin-canary"]
    assert len(values) >= 3
    assert not [word for word in values if word in written]
    assert Sealed.objects.count() == 1
    assert kept
    assert all(secret._spent for secret in kept)


def test_a_sealed_process_says_why_and_tries_later(fake, begin, now):
    trial, ring = begin(), keyring.active()
    keyring.uninstall("The key file is gone.")

    with pytest.raises(Unfinished, match="The key file is gone"):
        work(trial, now)

    keyring.install(ring)
    assert work(trial, now).state == "passed"


# For one run each.


@pytest.fixture
def minter(_registry, where):
    made = fakes.install(fakes.Minter())
    Connection.objects.update(provider=made.kind)
    return made


def test_what_is_for_one_run_is_made_tried_and_ended(minter, begin, now):
    trial = work(begin(), now)

    assert trial.state == "passed"
    assert [step for step, _ in told(trial)] == [
        "check", "prepare", "create", "validate", "revoke", "refuse",
    ]  # fmt: skip
    assert minter.alive() == []
    assert minter.calls.count("mint") == 1


def test_a_lost_one_for_one_run_is_told_and_not_made_again(minter, begin, now):
    minter.fail("mint", After(base.Ambiguous("No answer.")))
    trial = begin()
    with pytest.raises(Unfinished):
        work(trial, now)

    work(trial, now)

    assert trial.state == "failed"
    assert Finding.objects.get(closed_at=None).kind == "unanswered"
    assert minter.calls.count("mint") == 1
