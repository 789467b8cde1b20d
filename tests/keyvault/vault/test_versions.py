"""A version goes through its states once, in order, with a ledger line for each."""

from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from approvals.ports import NotVisible
from keyvault.audit.models import Event
from keyvault.vault import selectors, services
from keyvault.vault.models import Sealed, Version, VersionState
from keyvault.vault.steps import WrongState
from tests.keyvault.vault.rows import WORKER, credential, live_version

pytestmark = pytest.mark.django_db


def _begin(key, request_id, now):
    return services.begin(
        key_id=key.pk, request_id=request_id, now=now, actor=WORKER, server={"host": "db"}
    )


def _store(version, now, **more):
    return services.store(
        version_id=version.pk, credential=credential(**more), provider="fake", now=now, actor=WORKER
    )


def _events(key):
    rows = Event.objects.filter(subject_kind="key", subject_id=str(key.pk)).order_by("at")
    return [row.event for row in rows]


def test_begin_gives_the_same_version_to_the_same_request(key, request_id, now):
    first, second = _begin(key, request_id, now), _begin(key, request_id, now)

    assert first.pk == second.pk
    assert (first.number, first.state) == (1, VersionState.PENDING)
    assert _events(key) == ["version.created"]


def test_begin_refuses_a_second_request_while_one_is_on_its_way(key, request_id, now):
    _begin(key, request_id, now)

    with pytest.raises(WrongState, match="still on its way"):
        _begin(key, uuid4(), now)


def test_begin_of_an_unknown_key_is_not_visible(request_id, now):
    with pytest.raises(NotVisible):
        services.begin(key_id=uuid4(), request_id=request_id, now=now, actor=WORKER, server={})


def test_store_twice_keeps_the_later_values(key, request_id, now):
    version = _begin(key, request_id, now)

    _store(version, now, remote_id="r1", password="one")
    _store(version, now, remote_id="r2", password="two")

    found = services.open_material(version_id=version.pk, actor=WORKER, now=now, purpose="test")
    assert found["password"].reveal() == b"two"
    assert selectors.version(version.pk).remote_id == "r2"
    assert Sealed.objects.count() == 1


def test_promote_refuses_a_version_without_a_value(key, request_id, now):
    version = _begin(key, request_id, now)

    with pytest.raises(WrongState, match="no value yet"):
        services.promote(version_id=version.pk, now=now, actor=WORKER)


def test_promote_twice_is_promote_once(key, live, now):
    services.promote(version_id=live.pk, now=now, actor=WORKER)

    assert selectors.current(key.pk) == live
    assert _events(key) == ["version.created", "version.issued", "version.promoted"]


def test_promote_puts_the_version_before_it_into_grace(key, live, now):
    later = live_version(key, uuid4(), now, "next-value", "r2")

    assert later.number == 2
    assert selectors.current(key.pk) == later
    assert selectors.version(live.pk).state == VersionState.PREVIOUS
    assert [row.number for row in selectors.live(key.pk)] == [1, 2]


def test_the_database_holds_one_current_version_per_key(key, live, now):
    with pytest.raises(IntegrityError, match="version_one_current"), transaction.atomic():
        Version.objects.create(
            key=key,
            number=9,
            state="current",
            remote_id="x",
            created_at=now,
            issued_at=now,
            promoted_at=now,
        )


@pytest.mark.parametrize(
    "change",
    [
        {"state": "lost"},
        {"state": "revoked"},
        {"remote_id": ""},
        {"promoted_at": None},
    ],
)
def test_the_database_refuses_a_version_that_cannot_be(live, change):
    with pytest.raises(IntegrityError), transaction.atomic():
        Version.objects.filter(pk=live.pk).update(**change)


def test_mark_revoked_twice_records_it_once(key, live, now, request_id):
    for _ in range(2):
        services.mark_revoked(
            version_id=live.pk, cause="asked", now=now, actor=WORKER, request_id=request_id
        )

    assert selectors.current(key.pk) is None
    assert selectors.version(live.pk).revoked_at == now
    assert _events(key).count("version.revoked") == 1


def test_destroy_deletes_the_sealed_values(live, now):
    services.mark_revoked(version_id=live.pk, cause="asked", now=now, actor=WORKER, request_id=None)
    for _ in range(2):
        services.destroy(version_id=live.pk, cause="over", now=now, actor=WORKER, request_id=None)

    assert not Sealed.objects.exists()
    with pytest.raises(WrongState):
        services.open_material(version_id=live.pk, actor=WORKER, now=now, purpose="test")


def test_destroy_refuses_what_may_be_in_use(live, now):
    with pytest.raises(WrongState, match="is Current, not"):
        services.destroy(version_id=live.pk, cause="", now=now, actor=WORKER, request_id=None)

    assert Sealed.objects.exists()


def test_open_material_records_who_opened_what_and_never_the_value(key, live, now):
    material = services.open_material(version_id=live.pk, actor=WORKER, now=now, purpose="delivery")

    event = Event.objects.get(event="secret.opened")
    assert material["password"].reveal() == b"canary-value"
    assert event.fields == {"number": 1, "fields": ["password"], "purpose": "delivery"}
    assert "canary" not in str(event.fields)


def test_the_fingerprint_is_keyed_and_equal_for_equal_values(key, live, now):
    same = live_version(key, uuid4(), now, "canary-value", "r2")
    other = live_version(key, uuid4(), now, "other-value", "r3")

    assert len(live.fingerprint) == 64
    assert same.fingerprint == live.fingerprint != other.fingerprint
