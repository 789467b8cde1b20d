from __future__ import annotations

import re

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from approvals import queue, selectors
from approvals.models import Job, Request
from approvals.ports import NotVisible
from approvals.services import Closed, withdraw
from keyvault.accounts.models import Team
from keyvault.actions import create_key, new_key
from keyvault.audit.models import Event
from keyvault.connections.models import Connection
from keyvault.inventory import access
from keyvault.inventory.models import Key
from keyvault.inventory.services import NameTaken
from keyvault.providers import base
from keyvault.vault import selectors as versions
from tests.keyvault.actions.conftest import declared

pytestmark = pytest.mark.django_db


def row(request) -> Request:
    return Request.objects.get(pk=request.pk)


def test_ask_registers_the_key_and_asks_in_one_transaction(house):
    request = house.ask()

    key = Key.objects.get(request_id=request.pk)
    assert (key.state, row(request).state, row(request).subject_id) == (
        "requested",
        "pending",
        str(key.pk),
    )


def test_a_fault_while_asking_leaves_no_key_behind(house):
    with pytest.raises(ValueError, match="reason"):
        create_key.ask(person=house.cast.alice, declared=declared(), reason=" ", now=house.now)

    assert not Key.objects.exists()


def test_the_plan_says_everything_that_execution_obeys(house):
    plan = row(house.ask()).plan
    rows = {change["field"]: change["then"] for change in plan["changes"]}

    assert rows["Connection"] == "Orders (orders)"
    assert rows["Provider"] == "Fake"
    assert rows["Owner"] == "Alice"
    assert rows["Allowed hosts"] == ["db.example.com"]
    assert rows["Lifetime"] == "90 days from its creation"
    assert plan["body"]["declared"] == declared().to_json()
    assert plan["body"]["connection_revision"] == 1


def test_one_approval_makes_a_live_key_with_one_current_version(house):
    key = house.create()

    version = versions.current(key.pk)
    assert key.state == "live"
    assert version.number == 1
    assert len(house.fake.alive()) == 1
    assert row_of(key).state == "done"
    held = access.permissions(house.cast.alice, key)
    assert held == {"view", "reveal", "revoke", "manage", "rotate"}


def row_of(key) -> Request:
    return Request.objects.get(pk=key.request_id)


def test_prod_waits_for_two_people_of_different_teams(house):
    request = house.ask(environment="prod")

    house.say(house.cast.bob, request)
    house.work()
    assert row(request).state == "pending"
    house.say(house.cast.carol, request)
    house.work()

    assert row(request).state == "done"


def test_a_rejected_request_gives_the_name_free(house):
    request = house.ask()

    house.say(house.cast.bob, request, verdict="reject")

    assert Key.objects.get(request_id=request.pk).released_at is not None
    assert house.ask().pk != request.pk


def test_a_withdrawn_request_gives_the_name_free(house):
    request = house.ask()

    withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)

    assert Key.objects.get(request_id=request.pk).released_at is not None


def test_a_taken_name_is_refused_before_anything_is_asked(house):
    house.ask()

    with pytest.raises(NameTaken):
        house.ask()

    assert Request.objects.count() == 1


def test_the_same_form_sent_twice_finds_its_first_request(house):
    request = house.ask()
    key = Key.objects.get(request_id=request.pk)

    assert create_key.asked_before(person=house.cast.alice, key_id=key.pk) == request.pk
    assert create_key.asked_before(person=house.cast.mallory, key_id=key.pk) is None


def test_revise_clears_decisions_and_changes_what_is_made(house):
    request = house.ask(environment="prod")
    house.say(house.cast.bob, request)

    create_key.revise(
        person=house.cast.alice,
        request_id=request.pk,
        declared=declared(environment="prod", lifetime_days=30),
        reason="Shorter.",
        now=house.now,
    )

    fresh = row(request)
    assert (fresh.revision, fresh.state) == (2, "pending")
    assert not selectors.who_decides(fresh, now=house.now).have
    house.say(house.cast.bob, request)
    house.say(house.cast.carol, request)
    house.work()
    assert Key.objects.get(request_id=request.pk).lifetime_days == 30


def test_revise_locks_the_request_before_the_key_like_every_end_of_a_request(house):
    request = house.ask()

    with CaptureQueriesContext(connection) as queries:
        create_key.revise(
            person=house.cast.alice,
            request_id=request.pk,
            declared=declared(lifetime_days=30),
            reason="Shorter.",
            now=house.now,
        )

    locks = [query["sql"] for query in queries if "FOR UPDATE" in query["sql"]]
    tables = [re.search(r'FROM "(\w+)"', text)[1] for text in locks]
    assert tables[:2] == ["approvals_request", "keyvault_key"]


def test_only_the_asker_revises(house):
    request = house.ask()

    with pytest.raises(NotVisible):
        create_key.revise(
            person=house.cast.bob,
            request_id=request.pk,
            declared=declared(),
            reason="Mine now.",
            now=house.now,
        )


def test_a_decided_request_is_not_revised(house):
    request = house.ask()
    house.say(house.cast.bob, request)

    with pytest.raises(Closed):
        create_key.revise(
            person=house.cast.alice,
            request_id=request.pk,
            declared=declared(lifetime_days=30),
            reason="Too late.",
            now=house.now,
        )


def test_what_is_made_is_what_was_approved_and_not_what_the_row_says_by_then(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    Key.objects.filter(request_id=request.pk).update(lifetime_days=3000, allowed_hosts=["evil.com"])

    house.work()

    key = Key.objects.get(request_id=request.pk)
    assert (key.lifetime_days, key.allowed_hosts) == (90, ["db.example.com"])
    assert Event.objects.filter(event="key.redeclared", subject_id=str(key.pk)).exists()


def test_a_changed_connection_invalidates_an_approved_request(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    Connection.objects.update(revision=2, config={"host": "evil.example.com"})

    house.work()

    assert row(request).state == "invalidated"
    assert not house.fake.alive()
    assert Key.objects.get(request_id=request.pk).released_at is not None


def point_elsewhere() -> None:
    """Change where the Connection leads, and let every job be due now."""
    Connection.objects.update(revision=2, config={"host": "evil.example.com"})
    Job.objects.filter(state="ready").update(due_at=Now())


def test_a_run_that_is_taken_up_again_makes_nothing_at_another_server(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    house.fake.fail("prepare", base.Transient("Busy."))
    house.work()
    assert row(request).state == "executing"

    point_elsewhere()
    house.work()

    assert (row(request).state, row(request).end_code) == ("failed", "server_changed")
    assert not house.fake.alive()


def test_a_call_whose_answer_was_lost_waits_until_its_server_is_back(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    house.fake.fail("create", base.Ambiguous("No answer."))
    house.work()

    point_elsewhere()
    house.work()

    assert row(request).state == "executing"
    assert [job.code for job in queue.held()] == ["server_changed"]


def test_a_new_credential_of_the_same_server_is_no_reason_to_stop(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    house.fake.fail("prepare", base.Transient("Busy."))
    house.work()

    Connection.objects.update(revision=2)
    Job.objects.filter(state="ready").update(due_at=Now())
    house.work()

    assert row(request).state == "done"


def test_running_twice_makes_one_credential(house):
    request = house.ask()
    house.say(house.cast.bob, request)

    house.work()
    house.work()

    assert len(house.fake.alive()) == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"team": "security"}, "team"),
        ({"environment": "nowhere"}, "environment"),
        ({"connection": "nowhere"}, "connection"),
        ({"delivery_mode": "pigeon"}, "delivery_mode"),
        ({"options": {"evil": "1"}}, "connection"),
        ({"lifetime_days": 3000}, "lifetime_days"),
        ({"cadence_days": 3000}, "cadence_days"),
        ({"calendar": "someday"}, "calendar"),
        ({"calendar": "mon 09:00", "cadence_days": 6}, "cadence_days"),
        ({"calendar": "15 09:00", "cadence_days": 30}, "cadence_days"),
    ],
)
def test_what_nobody_may_ask_is_refused_with_the_field_and_the_mend(house, changes, field):
    with pytest.raises(new_key.BadDeclaration) as refused:
        house.ask(**changes)

    assert set(refused.value.errors) == {field}
    assert not Request.objects.exists()


def test_a_span_beyond_the_limit_carries_the_nearest_allowed_one(house):
    with pytest.raises(new_key.BadDeclaration) as refused:
        house.ask(environment="prod", lifetime_days=400)

    assert refused.value.nearest == {"lifetime_days": 180}


def test_the_backup_owner_is_another_active_person(house):
    with pytest.raises(new_key.BadDeclaration) as refused:
        house.ask(backup_owner=house.cast.alice.pk)

    assert set(refused.value.errors) == {"backup_owner"}


def test_who_is_in_no_team_cannot_ask(house):
    with pytest.raises(new_key.BadDeclaration):
        house.ask(person=house.cast.mallory)


def test_the_request_is_visible_to_those_whom_it_concerns_and_nobody_else(house):
    request = house.ask(backup_owner=house.cast.erin.pk)

    for person in ("alice", "bob", "carol", "dave", "erin", "frank"):
        assert selectors.access_request(getattr(house.cast, person), request.pk)
    with pytest.raises(NotVisible):
        selectors.access_request(house.cast.mallory, request.pk)


def test_r14_the_action_rebuilt_from_its_payload_is_the_same(house):
    payload = row(house.ask()).payload
    action = create_key.CreateKey.from_payload(payload)

    assert action.to_payload() == payload
    with pytest.raises(ValueError, match="other fields"):
        create_key.CreateKey.from_payload({**payload, "extra": 1})


def test_asking_needs_a_team_and_not_a_role(house):
    assert [team.kind for team in new_key.teams(house.cast.alice)] == [Team.Kind.TEAM]
    assert new_key.teams(house.cast.frank) == []


def postgres(house) -> None:
    Connection.objects.update(provider="postgresql", config={"host": "db.example.com"})


def test_approvers_read_the_roles_that_will_exist_at_postgresql(house):
    postgres(house)
    request = house.ask(options={"login_prefix": "ledger", "owner_role": "reporting"})

    rows = {change["field"]: change["then"] for change in row(request).plan["changes"]}

    assert rows["Accounts made there"] == ["ledger_a", "ledger_b"]
    assert rows["Owner role"] == "reporting"
    assert rows["Server"] == ["Host: db.example.com"]


@pytest.mark.parametrize("prefix", ["Ledger", "pg_x", "a-b", "9a", "x" * 80])
def test_a_setting_that_cannot_work_is_refused_before_anybody_signs(house, prefix):
    postgres(house)

    with pytest.raises(new_key.BadDeclaration, match="login prefix"):
        house.ask(options={"login_prefix": prefix, "owner_role": "reporting"})
