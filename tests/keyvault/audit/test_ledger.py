"""Writing events: inside a transaction, from a closed list, never with a secret, or not at all."""

import contextlib
import json
import threading
import time
import uuid
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from approvals.canonical import NotCanonical
from approvals.ports import Subject
from keyvault.audit import context, ledger, protection, sequencer
from keyvault.audit.models import Event, LedgerLeaf
from keyvault.crypto.secret import Secret
from tests.keyvault.audit.conftest import ALICE, KEY

ROLE = "kv_test_app"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


def _record(**changes):
    given = {
        "event": "request.commented",
        "actor": ALICE,
        "subject": KEY,
        "now": timezone.now(),
        "fields": {"comment": "hello"},
    } | changes
    return ledger.record(given.pop("event"), **given)


@pytest.mark.django_db(transaction=True)
def test_record_refuses_to_work_outside_a_transaction():
    with pytest.raises(ledger.NotInTransaction):
        _record()


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changes",
    [
        {"event": "request.invented"},
        {"fields": {"secret": "x"}},
        {"fields": {"comment": "x", "extra": 1}},
    ],
)
def test_record_refuses_names_and_fields_outside_the_list(changes):
    with pytest.raises(ledger.UnknownEvent):
        _record(**changes)


@pytest.mark.django_db
@pytest.mark.parametrize("value", [b"raw", 1.5, Secret(b"canary"), {"deep": {1: 2}}, {1, 2}])
def test_r13_record_refuses_what_is_no_json_value(value):
    with pytest.raises(NotCanonical):
        _record(fields={"comment": value})


@pytest.mark.django_db
def test_record_keeps_who_what_when_and_where_from():
    now, request_id = timezone.now(), uuid.uuid4()
    origin = context.Origin(ip="192.0.2.7", user_agent="Firefox", correlation_id="c-1", session="s")

    with context.origin(origin):
        found = Event.objects.get(id=_record(now=now, request_id=request_id, outcome="refused"))

    assert (found.actor_label, found.subject_label) == ("Alice Ames", "billing-reader")
    assert (found.ip, found.user_agent, found.correlation_id) == ("192.0.2.7", "Firefox", "c-1")
    assert (found.acted_at, found.request_id, found.outcome) == (now, request_id, "refused")
    assert abs(found.at - now).total_seconds() < 60


@pytest.mark.django_db
def test_an_event_costs_one_round_trip(django_assert_num_queries):
    with django_assert_num_queries(1):
        _record()


@pytest.mark.django_db(transaction=True)
def test_the_patience_of_an_event_ends_with_it():
    with transaction.atomic(), connection.cursor() as cursor:
        _record()
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("0",)


@pytest.mark.django_db
def test_the_time_and_the_transaction_of_an_event_are_the_database_s_own():
    row = Event.objects.get(id=_record(now=timezone.now() - timedelta(days=400)))

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_xact_id()::text::bigint, clock_timestamp()")
        xact, now = cursor.fetchone()
    assert row.xact == xact
    assert timedelta(0) <= now - row.at < timedelta(minutes=1)


@pytest.mark.django_db
def test_hostile_text_is_recorded_not_refused():
    hostile = "a\x00b\ud800c" + "x" * 400

    row = Event.objects.get(
        id=_record(subject=KEY.__class__("key", "1", hostile), fields={"comment": hostile})
    )

    assert row.subject_label.startswith("a␀b\\ud800c")
    assert len(row.subject_label) == 200
    assert row.fields["comment"].startswith("a␀b\\ud800c")


@pytest.mark.django_db
@given(value=JSON)
def test_a_row_read_back_has_the_leaf_of_the_row_written(value):
    with transaction.atomic():
        row = Event.objects.get(id=_record(fields={"comment": value}))

        assert row.entry().leaf() == Event.objects.get(id=row.id).entry().leaf()
        assert json.loads(json.dumps(row.fields["comment"])) == row.fields["comment"]


@pytest.mark.parametrize(
    "canary",
    ["canary-8812", 8812008812, 88120.08812, True, None, b"canary-8812"],
)
@pytest.mark.parametrize("nest", [lambda v: v, lambda v: [v], lambda v: {"a": {"b": [v]}}])
def test_r13_masked_shows_no_value_of_any_type(canary, nest):
    masked = ledger.masked(nest(canary))

    assert masked.startswith("hmac-sha256:")
    assert len(masked) == len("hmac-sha256:") + 64
    assert "8812" not in masked.removeprefix("hmac-sha256:") or len(str(canary)) < 5
    assert masked == ledger.masked(nest(canary))


@given(left=JSON, right=JSON)
def test_r13_masked_tells_different_values_apart(left, right):
    same = json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)

    assert (ledger.masked(left) == ledger.masked(right)) == same


def test_r13_masked_tells_types_apart():
    values = [1, "1", True, b"1", 1.0, [1], {"a": 1}, None, "", {"float": "1.0"}, {"bytes": "31"}]

    assert len({ledger.masked(value) for value in values}) == len(values)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keyvault_event SET actor_label = 'Mallory'",
        "DELETE FROM keyvault_ledgerleaf",
        "UPDATE keyvault_ledgerleaf SET leaf_hash = 'x'",
        "TRUNCATE keyvault_event CASCADE",
        "TRUNCATE keyvault_checkpoint",
        "TRUNCATE keyvault_ledgernode",
        (
            "INSERT INTO keyvault_event (id, acted_at, event, outcome, actor_kind, actor_id,"
            " actor_label, on_behalf_of, subject_kind, subject_id, subject_label, correlation_id, ip,"
            " session, user_agent, fields) SELECT id, acted_at, event, outcome, actor_kind, actor_id,"
            " actor_label, on_behalf_of, subject_kind, subject_id, subject_label, correlation_id, ip,"
            " session, user_agent, fields FROM keyvault_event"
            " ON CONFLICT (id) DO UPDATE SET event = 'x'"
        ),
    ],
)
def test_the_tables_refuse_to_be_rewritten(sealed, statement):
    sealed(3)
    connection.check_constraints()

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        connection.cursor().execute(statement)

    assert LedgerLeaf.objects.count() == 3


@pytest.fixture
def narrow_role(db):
    """A role that may do with the ledger what migration 0002_ledger grants, and no more."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
        cursor.execute(f"GRANT USAGE ON SCHEMA public TO {ROLE}")
        cursor.execute(f"GRANT SELECT, INSERT ON {', '.join(protection.TABLES)} TO {ROLE}")
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE ON keyvault_ledgertree TO {ROLE}")
        cursor.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
    yield ROLE
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")


def test_the_serving_role_writes_and_sequences_and_rewrites_nothing(narrow_role):
    _record()

    assert sequencer.run_once() == 1
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        connection.cursor().execute("UPDATE keyvault_event SET actor_label = 'Mallory'")


def test_protection_says_what_is_there(narrow_role):
    assert protection.found() == "role and trigger"

    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
    assert protection.found() == "trigger only"

    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER keyvault_event_append_only ON keyvault_event")
    assert protection.found() == "nothing"


def test_r49_without_insert_the_act_fails_with_its_event(narrow_role):
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute(f"REVOKE INSERT ON keyvault_event FROM {ROLE}")
        cursor.execute(f"GRANT ALL ON django_content_type TO {ROLE}")
        cursor.execute(f"SET LOCAL ROLE {ROLE}")

    with pytest.raises(ledger.LedgerUnavailable), transaction.atomic():
        _act_and_record()

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_content_type WHERE model LIKE '%%x'")
        assert cursor.fetchone() == (0,)


def _act_and_record():
    connection.cursor().execute("UPDATE django_content_type SET model = model || 'x'")
    _record()


@pytest.mark.django_db
def test_r49_an_act_that_swallows_the_failure_commits_nothing():
    """The driver refuses a NUL by itself, so the server would still commit the transaction."""
    with transaction.atomic():
        connection.cursor().execute("UPDATE django_content_type SET model = model || 'x'")
        with contextlib.suppress(ledger.LedgerUnavailable):
            _record(subject=Subject("k\x00y", "1", "key-1"))

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM django_content_type WHERE model LIKE '%%x'")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_r49_a_ledger_that_is_held_fails_the_act_and_hangs_nobody():
    held, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE keyvault_event IN ACCESS EXCLUSIVE MODE")
            held.set()
            release.wait(60)
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    began = time.monotonic()
    try:
        with pytest.raises(ledger.LedgerUnavailable), transaction.atomic():
            _record()
        assert time.monotonic() - began < 30
    finally:
        release.set()
        thread.join()

    with transaction.atomic():
        _record()
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone() == ("0",)
