"""Which server is reached with which credential changes only by approval."""

from dataclasses import replace
from uuid import uuid4

import pytest
from django.db import transaction

from approvals.models import Request
from approvals.ports import CannotExecute
from keyvault.actions import about_keys, change_connection
from keyvault.actions.change_connection import ChangeConnection
from keyvault.audit.models import Event
from keyvault.connections import context, selectors
from keyvault.connections.drafts import BadDraft, Draft
from keyvault.connections.models import Connection
from keyvault.vault.models import Sealed
from tests.keyvault.actions import rules
from tests.keyvault.connections.fakes import Crash
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db

CANARY = "admin-canary-9f31"
DRAFT = Draft(
    slug="billing-db",
    title="Billing database",
    provider="fake",
    config={"host": "db.example.com", "user": "kv_admin"},
    allowed_hosts=("10.1.2.3:5432",),
    environment="dev",
    team="payments",
)


@pytest.fixture
def _policies(cast, now):
    rules.DEFAULTS.put(now)


@pytest.fixture
def ask(cast, fake, now, _policies):
    def call(draft=DRAFT, credential=None, slug=""):
        return change_connection.ask(
            person=cast.frank,
            draft=draft,
            credential={"password": CANARY} if credential is None else credential,
            reason="A new server.",
            slug=slug,
            now=now,
        ).pk

    return call


def _action(request_id):
    row = Request.objects.get(pk=request_id)
    return ChangeConnection.from_payload(row.payload), row


def _run(request_id, claims):
    action, _ = _action(request_id)
    outcome = action.execute(request_id=request_id, run=claims.claim())
    Request.objects.filter(pk=request_id).update(
        state="done", decided_at=claims.now, ended_at=claims.now
    )
    return outcome


def test_asking_seals_the_credential_and_makes_no_connection(ask):
    request_id = ask()

    action, row = _action(request_id)
    sealed = Sealed.objects.get(subject_kind="connection_change")
    assert sealed.subject_id == action.proposal_id
    assert not Connection.objects.exists()
    assert CANARY not in str(row.payload) + str(row.plan)
    assert row.state == "pending"


def test_the_plan_shows_server_user_way_out_and_fingerprint(ask):
    action, row = _action(ask())

    rows = {change["field"]: change for change in row.plan["changes"]}
    assert rows["Host"]["then"] == "db.example.com"
    assert rows["Admin user"]["then"] == "kv_admin"
    assert rows["Private addresses it may reach"]["then"] == ["10.1.2.3:5432"]
    assert rows["Environment"]["then"] == "dev"
    shown = rows["Admin credential (fingerprint)"]["then"]
    assert action.fingerprint.startswith(shown)
    assert "db.example.com as kv_admin" in row.plan["sentence"]


def test_executing_makes_the_connection_and_moves_the_credential(ask, fake, claims, now):
    request_id = ask()

    outcome = _run(request_id, claims)

    made = selectors.get("billing-db")
    assert "Billing database is set up" in outcome.sentence
    assert made.allowed_hosts == ["10.1.2.3:5432"]
    assert made.checked_at == now
    admin = context.open_admin(made, actor=WORKER, now=now, purpose="test")
    assert admin["password"].reveal().decode() == CANARY
    assert not Sealed.objects.filter(subject_kind="connection_change").exists()


def test_executing_twice_makes_one(ask, claims):
    request_id = ask()

    for _ in range(2):
        _run(request_id, claims)

    assert Connection.objects.count() == 1
    assert Event.objects.filter(event="connection.created").count() == 1


def test_a_crash_after_the_write_is_taken_up(ask, claims):
    request_id = ask()
    action, _ = _action(request_id)

    with pytest.raises(Crash):
        action.execute(request_id=request_id, run=claims.claim(crash_at="connection:written"))
    _run(request_id, claims)

    assert selectors.get("billing-db").checked_at is not None


def test_a_request_that_ends_undone_leaves_no_credential(ask, now):
    request_id = ask()
    action, _ = _action(request_id)

    with transaction.atomic():
        action.closed(request_id=request_id, state="rejected", now=now)

    assert not Sealed.objects.filter(subject_kind="connection_change").exists()


def test_a_change_shows_before_and_after_and_forgets_the_old_credential(ask, claims, now):
    _run(ask(), claims)
    moved = replace(DRAFT, config={"host": "db2.example.com", "user": "kv_admin"})

    request_id = ask(moved, {"password": "another-canary"}, slug="billing-db")
    _, row = _action(request_id)
    _run(request_id, claims)

    rows = {change["field"]: change for change in row.plan["changes"]}
    assert (rows["Host"]["now"], rows["Host"]["then"]) == ("db.example.com", "db2.example.com")
    assert rows["Admin credential (fingerprint)"]["warning"] == "New credential"
    made = selectors.get("billing-db")
    assert (made.revision, made.credential_number) == (2, 2)
    assert Sealed.objects.filter(subject_kind="connection").count() == 1


def test_a_sealed_credential_is_never_pointed_at_another_server(ask, claims):
    _run(ask(), claims)
    moved = replace(DRAFT, config={"host": "evil.example.com", "user": "kv_admin"})

    with pytest.raises(BadDraft) as caught:
        ask(moved, {}, slug="billing-db")

    assert caught.value.errors == {"password": "Admin password is needed."}


def test_a_new_title_needs_no_credential(ask, claims):
    _run(ask(), claims)

    _run(ask(replace(DRAFT, title="Billing"), {}, slug="billing-db"), claims)

    made = selectors.get("billing-db")
    assert (made.title, made.revision, made.credential_number) == ("Billing", 2, 1)


def test_a_change_made_on_an_older_state_is_not_executed(ask, claims):
    _run(ask(), claims)
    request_id = ask(replace(DRAFT, title="Billing"), {}, slug="billing-db")
    Connection.objects.update(revision=7)

    with pytest.raises(CannotExecute, match="has changed since"):
        _run(request_id, claims)


def test_a_name_that_was_taken_meanwhile_is_not_executed(ask, claims):
    first, second = ask(), ask()
    _run(first, claims)

    with pytest.raises(CannotExecute, match="already"):
        _run(second, claims)


def test_a_second_change_is_refused_while_one_is_open(ask, claims):
    _run(ask(), claims)
    ask(replace(DRAFT, title="Billing"), {}, slug="billing-db")

    with pytest.raises(about_keys.AlreadyAsked):
        ask(replace(DRAFT, title="Bills"), {}, slug="billing-db")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slug": "Not A Slug!"}, "slug"),
        ({"title": " "}, "title"),
        ({"config": {"user": "x"}}, "host"),
        ({"config": {"host": "a\u202eb"}}, "host"),
        ({"config": {"host": "a", "surprise": "b"}}, "provider"),
        ({"provider": "nothing"}, "provider"),
        ({"allowed_hosts": ("nonsense",)}, "allowed_hosts"),
        ({"environment": "moon"}, "environment"),
        ({"team": "moon"}, "team"),
    ],
)
def test_what_cannot_be_is_refused_by_field(ask, change, field):
    with pytest.raises(BadDraft) as caught:
        ask(replace(DRAFT, **change))

    assert field in caught.value.errors
    assert CANARY not in str(caught.value)
    assert not Sealed.objects.filter(subject_kind="connection_change").exists()


def test_one_that_serves_every_environment_counts_as_protected(fake, cast):
    action = ChangeConnection(
        connection_id=uuid4(),
        proposal_id=uuid4(),
        base_revision=0,
        fingerprint="",
        draft=replace(DRAFT, environment=""),
    )

    assert action.attributes()["protected"] == {"yes"}
    assert action.attributes()["environment"] == {"dev", "prod"}
    assert replace(action, draft=DRAFT).attributes()["protected"] == {"no"}
