"""What exists at a provider is compared with our records, again and again (I4, R56)."""

from datetime import timedelta
from uuid import uuid4

import pytest

from approvals.models import Job
from keyvault.audit.models import Event
from keyvault.connections import attempts, issuing, reconcile, schedule
from keyvault.connections.comparing import Standing, compare
from keyvault.connections.models import AttemptState, Connection
from keyvault.findings import selectors as findings
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import RemoteKey, Shape
from keyvault.vault import selectors as versions
from keyvault.vault.models import VersionState
from tests.keyvault.vault.rows import WORKER

OURS = "kv-0123456789abcdef-1"


def _remote(remote_id, tag=None, *, enabled=True):
    return RemoteKey(remote_id, tag=tag, is_enabled=enabled)


def test_compare_sorts_what_it_finds():
    found = [
        _remote("in-use", "kv-00000000-1"),
        _remote("coming", "kv-00000000-2"),
        _remote("over", "kv-00000000-3"),
        _remote("strange", OURS),
        _remote("foreign"),
        _remote("other label", "team-a"),
        _remote("renamed there"),
        _remote("ended", OURS, enabled=False),
    ]
    standings = {
        "kv-00000000-1": Standing.IN_USE,
        "kv-00000000-2": Standing.IN_FLIGHT,
        "kv-00000000-3": Standing.OVER,
    }

    seen = compare(
        found, standings=standings, believed=["in-use", "gone", "ended", "renamed there"]
    )

    assert [key.remote_id for key in seen.known] == ["in-use", "coming"]
    assert [key.remote_id for key in seen.over] == ["over"]
    assert [key.remote_id for key in seen.strange] == ["strange"]
    assert seen.missing == ("ended", "gone")
    assert seen.foreign_count == 2


@pytest.fixture
def issued(fake, key, request_id, claims):
    return issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)


@pytest.fixture
def look(where, claims):
    return lambda: reconcile.look(where.pk, claims.claim())


@pytest.mark.django_db
def test_a_look_at_an_orderly_provider_finds_nothing(fake, issued, look, where, now):
    fake.keys["x"] = _remote("x")

    look()

    seen = Connection.objects.get(pk=where.pk)
    assert findings.open_count() == 0
    assert (seen.inventoried_at, seen.foreign_count) == (now, 1)
    assert len(fake.alive()) == 2


@pytest.mark.django_db
def test_a_stranger_with_our_label_is_named_and_left_alone(fake, where, look):
    fake.keys["x"] = _remote("x", OURS)

    look()
    look()

    finding = Finding.objects.get()
    assert (finding.kind, finding.detail) == ("orphan", "x")
    assert [key.remote_id for key in fake.alive()] == ["x"]
    del fake.keys["x"]
    look()
    assert findings.open_count() == 0


@pytest.mark.django_db
def test_a_revoked_version_that_lives_on_is_ended_again(fake, key, issued, look, claims):
    issuing.revoke(key=key, request_id=uuid4(), run=claims.claim(), actor=WORKER)
    fake.keys[issued.remote_id] = _remote(issued.remote_id, issued.remote["tag"])

    look()

    assert fake.alive() == []
    assert Event.objects.filter(event="connection.orphan_revoked").count() == 1
    assert Finding.objects.get().closed_by


@pytest.mark.django_db
def test_an_orphan_that_cannot_be_ended_stays_visible(fake, key, issued, look, claims):
    issuing.revoke(key=key, request_id=uuid4(), run=claims.claim(), actor=WORKER)
    fake.keys[issued.remote_id] = _remote(issued.remote_id, issued.remote["tag"])
    fake.fail("revoke", base.Denied("No."))

    look()

    assert findings.open_count() == 1
    assert len(fake.alive()) == 1


@pytest.mark.django_db
def test_a_version_in_use_that_is_gone_is_named_until_it_works_again(fake, issued, look):
    kept = fake.keys.pop(issued.remote_id)
    look()
    finding = Finding.objects.get()
    assert finding.kind == "dead"
    assert "billing-agent" in finding.sentence

    fake.keys[issued.remote_id] = kept
    look()

    assert findings.open_count() == 0
    assert versions.version(issued.pk).state == VersionState.CURRENT


@pytest.mark.django_db
def test_a_credential_on_its_way_is_left_alone(fake, key, request_id, look, claims):
    fake.verdict = base.Verdict.UNKNOWN
    with pytest.raises(Exception, match="could not be tried"):
        issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)

    look()

    assert len(fake.alive()) == 1
    assert findings.open_count() == 0


@pytest.mark.django_db
def test_a_provider_that_fails_is_named_the_second_time_and_forgiven(fake, where, look):
    fake.fail("inventory", base.Transient("down"), base.Transient("down"))

    look()
    assert findings.open_count() == 0
    look()
    assert Finding.objects.get().kind == "connection"
    look()
    assert findings.open_count() == 0


@pytest.mark.django_db
def test_a_plug_in_that_fails_in_any_way_stops_nothing(fake, where, look):
    fake.fail("inventory", RuntimeError("canary in a bug"), RuntimeError("canary in a bug"))

    look()
    look()

    assert "canary" not in Finding.objects.get().sentence


@pytest.mark.django_db
def test_what_a_person_does_by_hand_is_not_listed(fake, where, look):
    fake.shape = Shape.MANUAL
    fake.keys["x"] = _remote("x", OURS)

    look()

    assert "inventory" not in fake.calls
    assert findings.open_count() == 0


@pytest.mark.django_db
def test_run_promises_one_look_per_period(where, now):
    due = now + timedelta(minutes=11)

    assert reconcile.run(now=due) == 1
    assert reconcile.run(now=due) == 0
    assert Job.objects.get().subject_id == where.pk
    assert schedule.due(due + schedule.PERIOD) == [where.pk]
    assert schedule.PERIOD + timedelta(minutes=1) <= timedelta(minutes=15)


@pytest.mark.django_db
def test_an_unknown_connection_is_nobodys_work(claims):
    reconcile.look(uuid4(), claims.claim())


@pytest.mark.django_db
def test_settling_an_attempt_twice_keeps_the_first_word(issued, key, now):
    row = attempts.by_tags(key.connection_id, [issued.remote["tag"]])[issued.remote["tag"]]

    attempts.settle(row, AttemptState.FAILED, note="late", actor=WORKER, now=now)

    assert attempts.state_of(row) == AttemptState.DONE
