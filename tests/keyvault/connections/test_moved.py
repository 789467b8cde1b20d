"""A Connection that was led to another server says nothing of what was issued before."""

from importlib import import_module
from uuid import uuid4

import pytest
from django.db import connection, transaction

from approvals.ports import NeedsPerson, NotVisible
from keyvault.audit import ledger
from keyvault.audit.models import Event
from keyvault.connections import context, intake, issuing, places, reconcile, selectors
from keyvault.connections.models import Attempt, Connection
from keyvault.findings.models import Finding
from keyvault.inventory.models import Key
from keyvault.providers import base
from keyvault.vault import selectors as versions
from keyvault.vault.models import Version
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db

OLD, NEW = {"host": "old.example.com"}, {"host": "new.example.com"}


@pytest.fixture
def where(where):
    where.config = OLD
    where.save()
    return where


@pytest.fixture
def issued(fake, key, request_id, claims):
    return issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)


@pytest.fixture
def lead(where):
    """Change where the Connection leads, as an approved change does."""

    def call(config=NEW):
        Connection.objects.filter(pk=where.pk).update(config=config, revision=2)

    return call


@pytest.fixture
def revoke(key, claims):
    asked = uuid4()

    def call():
        fresh = Key.objects.select_related("connection").get(pk=key.pk)
        issuing.revoke(key=fresh, request_id=asked, run=claims.claim(), actor=WORKER)

    return call


def _opened(event):
    return Event.objects.filter(event="secret.opened", fields__purpose=event).count()


def test_a_version_remembers_the_server_that_issued_it(issued, where):
    assert issued.server == {"provider": "fake", **OLD}
    assert places.is_within_reach(issued, where)


def test_nothing_is_revoked_or_tried_at_the_server_of_now(issued, lead, revoke, fake):
    lead()
    before = len(fake.calls)

    with pytest.raises(NeedsPerson) as held:
        revoke()

    assert held.value.code == "server_changed"
    assert "issued at old.example.com" in held.value.sentence
    assert "leads to new.example.com now" in held.value.sentence
    assert "Have the Connection changed back and resume" in held.value.sentence
    assert fake.calls[before:] == []
    assert _opened("revoke") == 0, "the admin credential of the new server stays sealed"
    assert versions.version(issued.pk).state == "current"


def test_a_server_that_knows_no_such_id_is_no_proof_of_an_end(issued, lead, revoke, fake):
    lead()
    kept = dict(fake.keys)
    fake.keys.clear()

    with pytest.raises(NeedsPerson):
        revoke()

    assert versions.version(issued.pk).state == "current"
    fake.keys.update(kept)


def test_the_connection_changed_back_is_one_mend(issued, lead, revoke, fake):
    lead()
    with pytest.raises(NeedsPerson):
        revoke()
    lead(OLD)

    revoke()

    assert fake.alive() == []
    assert versions.version(issued.pk).state == "revoked"
    assert Attempt.objects.filter(act="revoke").count() == 1


def test_the_word_of_a_person_is_the_other(issued, lead, revoke, key, cast, fake, now):
    lead()
    with pytest.raises(NeedsPerson):
        revoke()
    assert selectors.awaits_confirmation(key.pk)
    task = intake.task(key=key, person=cast.alice)
    assert task.act == "revoke"
    assert task.steps[0] == f"End {issued.remote_id} at old.example.com, where it was issued."

    intake.confirm_revoked(key=key, person=cast.alice, now=now)
    revoke()

    cause = Event.objects.get(event="version.revoked").fields["cause"]
    assert cause == f"ended by hand at old.example.com, confirmed by {cast.alice}"
    assert "revoke" not in fake.calls
    assert versions.live(key.pk) == []


def test_nobody_elses_word_counts(issued, lead, revoke, key, cast, now):
    lead()
    with pytest.raises(NeedsPerson):
        revoke()

    for person in (cast.mallory, cast.bob):
        with pytest.raises(NotVisible):
            intake.confirm_revoked(key=key, person=person, now=now)


def test_where_a_call_can_reach_nobodys_word_is_asked_for(issued, revoke, key, cast, fake, now):
    fake.fail("revoke", base.Ambiguous("No answer."))
    with pytest.raises(Exception, match="No answer"):
        revoke()

    assert not selectors.awaits_confirmation(key.pk)
    with pytest.raises(NotVisible):
        intake.confirm_revoked(key=key, person=cast.alice, now=now)


def test_what_a_call_can_end_is_ended_before_a_person_is_waited_for(
    issued, lead, revoke, key, fake, now
):
    lead()
    fresh = Key.objects.select_related("connection").get(pk=key.pk)
    another = Claims(now).claim()
    later = issuing.issue(key=fresh, request_id=another.subject_id, run=another, actor=WORKER)

    with pytest.raises(NeedsPerson):
        revoke()

    assert versions.version(later.pk).state == "revoked"
    assert versions.version(issued.pk).state == "previous"
    assert [found.remote_id for found in fake.alive()] == [issued.remote_id]


def test_settings_that_name_no_server_are_no_reason_to_stop(issued, lead, revoke, fake):
    lead(OLD | {"user": "another_admin"})

    revoke()

    assert fake.alive() == []


def test_a_version_whose_server_was_never_recorded_is_left_to_a_person(issued, revoke, fake):
    Version.objects.update(server={})

    with pytest.raises(NeedsPerson, match="a server that was not recorded"):
        revoke()

    assert len(fake.alive()) == 1


def test_a_plug_in_that_marks_nothing_counts_every_setting():
    unmarked = {"region": "eu", "account": "7"}

    assert places.server_of("gone", unmarked) == {"provider": "gone", **unmarked}
    assert places.named(places.server_of("gone", unmarked)) == "gone"


def test_a_marked_setting_left_empty_is_its_default():
    named = places.server_of("postgresql", {"host": "db", "tls": "disable"})

    assert named == places.server_of("postgresql", {"host": "db", "port": "5432"})
    assert places.named(named) == "db:5432"


def test_the_inventory_calls_nothing_dead_that_lives_elsewhere(issued, lead, where, fake, claims):
    lead()
    kept = dict(fake.keys)
    fake.keys.clear()

    reconcile.look(where.pk, claims.claim())

    finding = Finding.objects.get()
    assert (finding.kind, finding.detail) == ("connection", "moved")
    assert "version 1 of billing-agent came from old.example.com" in finding.sentence
    lead(OLD)
    fake.keys.update(kept)
    reconcile.look(where.pk, claims.claim())
    assert Finding.objects.get().closed_by


def _fill():
    migration = import_module("keyvault.migrations.0008_version_server")
    Version.objects.update(server={})
    with connection.cursor() as cursor:
        cursor.execute(migration.FILL)


def test_versions_of_before_get_their_server_where_it_cannot_have_changed(issued, where):
    Connection.objects.update(provider="postgresql", config=OLD)

    _fill()

    filled = versions.version(issued.pk).server
    assert filled == places.server_of("postgresql", OLD)


def test_versions_of_before_get_none_where_the_settings_changed_since(issued, where, now):
    with transaction.atomic():
        ledger.record(
            "connection.changed",
            actor=WORKER,
            subject=context.subject_of(where),
            now=now,
            fields={"revision": 2, "provider": "fake", "fields": ["config"], "credential": ""},
        )

    _fill()

    assert versions.version(issued.pk).server == {}
