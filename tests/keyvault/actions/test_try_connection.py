"""To try a Connection: asked, decided by policy or by people, done, and refused with the mend."""

# ruff: noqa: ARG002 - the protocol's own signatures.

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction

from approvals import queue, services
from approvals.models import Job, Policy, Request
from approvals.ports import CannotExecute, Later, NotVisible
from keyvault.actions import about_keys, defaults, try_connection
from keyvault.actions.try_connection import TryConnection
from keyvault.audit.models import Event
from keyvault.connections import trial_work, trials
from keyvault.connections.models import Connection, Renewal, Trial
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import Capabilities, Field, Recovery, Shape
from tests.keyvault.actions.conftest import EVERYWHERE
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(trial_work, "PATIENCE_S", 0.0)


class Named(fakes.Fake):
    """A provider whose keys have accounts that their settings name, two of each."""

    options_schema = (
        Field("login", "Login name", required=False),
        Field("role", "Owner role"),
        Field("size", "Size", kind="choice", choices=(("s", "Small"),), required=False),
    )

    def capabilities(self, ctx):
        return Capabilities(Shape.SLOTS, Recovery.CLIENT, max_live=2)

    def propose(self, config, name):
        return {"login": name, "role": "reporting"}

    def foresee(self, ctx):
        if ctx.options["role"] == "postgres":
            raise base.Misconfigured("This role has rights over the server.")
        return tuple(ctx.options["login"] + suffix for suffix in ("_a", "_b"))


@pytest.fixture
def named(house):
    return fakes.install(Named())


@pytest.fixture
def ask(house):
    def call(slug="orders", **more):
        usual = {"person": house.cast.frank, "options": {}, "reason": "Before the first key."}
        return try_connection.ask(slug=slug, now=house.now, **{**usual, **more})

    return call


def test_where_nothing_is_protected_it_is_done_at_once(house, ask):
    request = ask()

    house.work()

    request.refresh_from_db()
    trial = Trial.objects.get()
    assert (request.state, trial.state, trial.request_id) == ("done", "passed", request.pk)
    assert request.outcome["sentence"].startswith("A throwaway credential was made, tried")
    assert trial.started_by == str(house.cast.frank)
    assert house.fake.alive() == []
    assert Event.objects.get(event="trial.started").request_id == request.pk


def test_what_serves_protected_environments_another_administrator_decides(house, ask):
    request = ask(EVERYWHERE)

    house.work()

    assert request.state == "pending"
    assert not Trial.objects.exists()
    with pytest.raises(NotVisible):
        house.say(house.cast.alice, request)
    with pytest.raises(services.NotEligible):
        house.say(house.cast.frank, request)
    house.say(house.cast.grace, request)
    house.work()
    assert Trial.objects.get().state == "passed"


def test_the_policies_come_at_the_next_start_of_an_installation_that_is_older(cast, now):
    names = Policy.objects.filter(name__startswith="Test runs").values_list("name", flat=True)
    with transaction.atomic():
        older = [one for one in defaults.POLICIES if "connection.try" not in one["scope"]["kind"]]
        services.seed_policies(older, now)
    assert not names

    for _ in range(2):
        defaults.seed(now=now)

    assert sorted(names.all()) == [
        "Test runs of Connections elsewhere",
        "Test runs of Connections that serve protected environments",
    ]


def test_the_plan_says_what_is_made_where_and_what_is_left(house, ask, named):
    request = ask(options={"role": "reporting"})

    changed = {row["field"]: row["then"] for row in request.plan["changes"]}
    assert changed["Provider"] == "Fake"
    assert changed["Accounts made there"] == ["keyvault-test_a", "keyvault-test_b"]
    assert (changed["Login name"], changed["Owner role"]) == ("keyvault-test", "reporting")
    assert changed["Environment"] == "dev"
    first, second = request.plan["breaks"]
    assert first.startswith("Nothing that is in use")
    assert "keyvault-test_a or keyvault-test_b is left there" in second
    assert request.payload["options"] == {"login": "keyvault-test", "role": "reporting"}


@pytest.mark.parametrize(
    ("options", "field", "sentence"),
    [
        ({"size": "xl"}, "option_size", "one of the listed"),
        ({"other": "x"}, "connection", "not take all"),
        ({"role": "postgres"}, "options", "rights over the server"),
    ],
)
def test_settings_that_cannot_be_are_refused(house, ask, named, options, field, sentence):
    with pytest.raises(try_connection.BadOptions) as caught:
        ask(options=options)

    assert sentence in caught.value.errors[field]
    assert not Request.objects.exists()


@pytest.mark.parametrize("slug", ["orders", "twin"])
def test_the_accounts_of_a_key_are_never_taken(house, ask, named, slug):
    """Neither of a key of this Connection, nor of one at another that leads to the same server."""
    rows.connection(house.cast, provider="fake", slug="twin", environment=house.cast.dev)
    key = house.ask(connection=slug, options={"login": "ledger", "role": "reporting"})

    with pytest.raises(try_connection.BadOptions, match="ledger-reader has its place"):
        ask(options={"login": "ledger", "role": "other"})

    services.withdraw(request_id=key.pk, person=house.cast.alice, now=house.now)
    assert ask(options={"login": "ledger"}).state in {"approved", "done"}


def test_a_user_who_may_have_two_keys_is_left_to_the_key_that_has_one(house, ask, monkeypatch):
    class Limited(fakes.Fake):
        options_schema = (Field("user", "User"), Field("note", "Note", required=False))

        def capabilities(self, ctx):
            return Capabilities(Shape.MULTI, Recovery.DIFF, max_live=2)

    fakes.install(Limited())
    house.create(options={"user": "app", "note": "a"})

    with pytest.raises(try_connection.BadOptions, match="has its place"):
        ask(options={"user": "app", "note": "b"})
    ask(options={"user": "test"})


def test_one_that_became_a_keys_place_meanwhile_is_not_begun(house, ask, named):
    request = ask(EVERYWHERE, options={"login": "ledger"})
    house.ask(connection=EVERYWHERE, options={"login": "ledger", "role": "reporting"})
    house.say(house.cast.grace, request)

    house.work()

    request.refresh_from_db()
    assert request.state == "failed"
    assert "has its place" in Trial.objects.get().sentence
    assert named.keys == {}


def test_a_second_one_is_refused_while_one_is_asked_or_open(house, ask):
    request = ask(EVERYWHERE)

    with pytest.raises(about_keys.AlreadyAsked):
        ask(EVERYWHERE)
    Request.objects.filter(pk=request.pk).update(state="withdrawn", ended_at=house.now)
    again = ask(EVERYWHERE)
    action = TryConnection.from_payload(again.payload)
    with pytest.raises(fakes.Crash):
        action.execute(request_id=again.pk, run=Claims(house.now).claim(crash_at="try:begun"))

    with pytest.raises(try_connection.NotTriable, match="under way"):
        ask(EVERYWHERE)


def test_executing_again_does_nothing_twice(house, ask):
    request = ask(EVERYWHERE)
    action = TryConnection.from_payload(request.payload)

    outcomes = [
        action.execute(request_id=request.pk, run=Claims(house.now, request.pk).claim())
        for _ in range(2)
    ]

    assert outcomes[0] == outcomes[1]
    assert house.fake.calls.count("create") == 1


def test_one_that_failed_says_so_in_its_request_and_again(house, ask):
    house.fake.fail("create", base.Denied("The right is missing."))
    request = ask()

    house.work()

    request.refresh_from_db()
    assert (request.state, request.end_sentence) == ("failed", "The right is missing.")
    action = TryConnection.from_payload(request.payload)
    with pytest.raises(CannotExecute, match="right is missing"):
        action.execute(request_id=request.pk, run=Claims(house.now, request.pk).claim())


def test_a_lost_answer_is_tried_again_by_the_queue(house, ask):
    house.fake.fail("create", fakes.After(base.Ambiguous("Lost.")))
    request = ask()
    house.work()
    assert Trial.objects.get().state == "calling"
    Job.objects.update(due_at=house.now - timedelta(seconds=1))

    house.work()

    request.refresh_from_db()
    assert request.state == "done"
    assert house.fake.alive() == []


def test_a_connection_that_leads_elsewhere_meanwhile_is_not_called(house, ask):
    request = ask()
    house.fake.fail("create", fakes.After(base.Ambiguous("Lost.")))
    house.work()
    Connection.objects.filter(slug="orders").update(config={"host": "other.example.com"})
    Job.objects.update(due_at=house.now - timedelta(seconds=1))
    calls = len(house.fake.calls)

    house.work()

    trial = Trial.objects.get()
    request.refresh_from_db()
    assert (request.state, trial.state) == ("failed", "failed")
    assert "another server" in trial.sentence
    assert len(house.fake.calls) == calls
    # No look at the server of now says anything about the one of before.
    assert Finding.objects.get(detail=trial.left_behind).kind == "unanswered"


def test_a_change_of_the_connection_before_its_start_stops_it(house, ask):
    request = ask(EVERYWHERE)
    Connection.objects.filter(slug=EVERYWHERE).update(config={"host": "other"}, revision=2)
    house.say(house.cast.grace, request)

    house.work()

    request.refresh_from_db()
    assert request.state == "invalidated"
    assert not Trial.objects.exists()


def test_one_waits_for_a_renewal_that_is_at_work(house, ask):
    request = ask(EVERYWHERE)
    action = TryConnection.from_payload(request.payload)
    row = Connection.objects.get(slug=EVERYWHERE)
    renewal = Renewal.objects.create(
        connection=row, request_id=row.pk, started_by="Schedule", number=2, created_at=house.now
    )
    run = Claims(house.now, request.pk)
    with pytest.raises(Later):
        action.execute(request_id=request.pk, run=run.claim())
    Renewal.objects.update(held_at=house.now)
    with pytest.raises(CannotExecute, match="being renewed"):
        action.execute(request_id=request.pk, run=run.claim())
    renewal.delete()

    assert action.execute(request_id=request.pk, run=run.claim()).facts["Connection"] == EVERYWHERE


def test_a_request_that_ends_undone_ends_its_test_run(house, ask):
    request = ask(EVERYWHERE)
    action = TryConnection.from_payload(request.payload)
    with pytest.raises(fakes.Crash):
        action.execute(request_id=request.pk, run=Claims(house.now).claim(crash_at="try:called"))

    services.withdraw(request_id=request.pk, person=house.cast.frank, now=house.now)

    trial = Trial.objects.get()
    assert (trial.state, trial.left_behind) == ("failed", trial.tags[-1])


def test_a_stored_action_of_another_shape_is_refused(house, ask):
    payload = ask().payload

    with pytest.raises(ValueError, match="other fields"):
        TryConnection.from_payload(payload | {"more": 1})


@pytest.mark.parametrize("provider", ["openbao", "manual", "gone"])
def test_what_cannot_be_tried_is_refused_with_the_mend(house, ask, provider):
    Connection.objects.update(provider=provider)

    with pytest.raises(try_connection.NotTriable):
        ask()


def test_administrators_and_auditors_see_the_request(house, ask):
    action = TryConnection.from_payload(ask().payload)

    assert action.visible_to(house.cast.dave.pk)
    assert action.visible_to(house.cast.grace.pk)
    assert not action.visible_to(house.cast.alice.pk)
    assert action.attributes()["protected"] == frozenset({"no"})
    everywhere = Connection.objects.get(slug=EVERYWHERE)
    assert replace(action, connection_id=everywhere.pk).attributes()["protected"] == {"yes"}


def test_a_held_job_is_given_up_by_the_clock_and_ends_its_request_when_it_is_resumed(house, ask):
    request = ask()
    action = TryConnection.from_payload(request.payload)
    with pytest.raises(fakes.Crash):
        action.execute(request_id=request.pk, run=Claims(house.now).claim(crash_at="try:called"))
    Job.objects.filter(kind="request.execute").update(attempts=6)
    house.work()

    assert trials.look_after(house.now) == 1

    trial = Trial.objects.get()
    assert (trial.state, trial.left_behind) == ("failed", trial.tags[-1])
    [held] = queue.held(kind="request.execute")
    queue.resume(job_id=held.id, person=house.cast.frank, now=house.now)
    house.work()
    request.refresh_from_db()
    assert (request.state, request.end_sentence) == ("failed", trial.sentence)
