from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from keyvault.audit.models import Event
from keyvault.inventory import access, changes, services
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import Key
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db


def events(key: Key) -> list[str]:
    rows = Event.objects.filter(subject_id=str(key.pk)).order_by("pk")
    return sorted(row.event for row in rows if not row.event.startswith("grant"))


def act(function, key, cast, **more):
    with transaction.atomic():
        return function(
            key_id=key.pk, request_id=key.request_id, actor=builders.TESTS, now=cast.now, **more
        )


def test_register_reserves_the_name_and_lets_the_owner_look(cast):
    key = builders.requested(cast)

    assert key.state == "requested"
    assert access.permissions(cast.alice, key) == {"view"}
    assert access.permissions(cast.carol, key) == frozenset()
    assert events(key) == ["key.requested"]


@pytest.mark.parametrize("spelling", [" Ledger-Reader", "LEDGER-READER", "\uff4cedger-reader"])
def test_r35_a_name_is_reserved_once_in_all_its_spellings(cast, spelling):
    builders.requested(cast)

    with pytest.raises(services.NameTaken, match="ledger-reader is taken"):
        builders.requested(cast, name=spelling)


def test_a_released_name_can_be_asked_for_again(cast):
    key = builders.requested(cast)

    act(services.release, key, cast, state="rejected")

    assert builders.requested(cast).name == key.name
    assert events(key) == ["key.released", "key.requested"]


def test_a_revoked_name_is_never_used_again(cast):
    key = builders.live(cast)
    act(services.revoke, key, cast)

    with pytest.raises(services.NameTaken):
        builders.requested(cast)


def test_go_live_is_idempotent_and_sets_the_dates(cast):
    key = builders.live(cast)

    again = act(services.go_live, key, cast)

    assert again.expires_at == cast.now + timedelta(days=90)
    assert again.rotation_due_at == cast.now + timedelta(days=30)
    assert events(key).count("key.live") == 1


def test_a_fixed_day_holds_for_the_first_value_and_for_each_later_one(cast):
    key = builders.live(cast, calendar="mon 09:00", cadence_days=7)
    first = key.rotation_due_at
    later = first + timedelta(minutes=4)

    with transaction.atomic():
        changes.rotated(key_id=key.pk, request_id=key.request_id, actor=builders.TESTS, now=later)

    assert cast.now < first <= cast.now + timedelta(days=7)
    assert (first.weekday(), f"{first:%H:%M}") == (0, "09:00")
    assert Key.objects.get(pk=key.pk).rotation_due_at == first + timedelta(days=7)


def test_the_database_takes_no_other_calendar(cast):
    key = builders.live(cast, calendar="last 09:00", cadence_days=31)

    for text in ("29 09:00", "mon 09:00\n", "x"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Key.objects.filter(pk=key.pk).update(calendar=text)


def test_what_was_asked_for_before_there_were_calendars_is_the_same_as_ever():
    old = builders.declared().to_json()

    assert "calendar" not in old
    assert Declaration.from_json(old) == builders.declared()
    fixed = builders.declared(calendar="15 09:00", cadence_days=31)
    assert Declaration.from_json(fixed.to_json()) == fixed


def test_go_live_refuses_another_request(cast):
    key = builders.requested(cast)
    with transaction.atomic(), pytest.raises(services.WrongState):
        services.go_live(key_id=key.pk, request_id=key.pk, actor=builders.TESTS, now=cast.now)


def test_release_does_nothing_to_a_key_that_lived(cast):
    key = builders.live(cast)

    act(services.release, key, cast, state="failed")

    assert Key.objects.get(pk=key.pk).released_at is None


def test_revoke_ends_every_right_but_sight(cast):
    key = builders.live(cast)

    act(services.revoke, key, cast)
    act(services.revoke, key, cast)

    assert access.permissions(cast.alice, key) == {"view"}
    assert access.permissions(cast.carol, key) == {"view"}
    assert events(key).count("key.revoked") == 1


def test_revoke_refuses_a_key_that_never_lived(cast):
    with pytest.raises(services.WrongState):
        act(services.revoke, builders.requested(cast), cast)


def test_a_rotation_is_brought_forward_and_never_back(cast):
    key = builders.live(cast)
    soon, later = cast.now + timedelta(hours=1), cast.now + timedelta(days=1)

    act(changes.want_rotation, key, cast, cause="seen", due_at=soon)
    act(changes.want_rotation, key, cast, cause="other", due_at=later)

    row = Key.objects.get(pk=key.pk)
    assert (row.rotation_due_at, row.rotation_cause) == (soon, "seen")


def test_redeclare_changes_what_is_asked_and_never_owner_state_or_dates(cast):
    key = builders.requested(cast)
    with transaction.atomic():
        changed = services.redeclare(
            key_id=key.pk,
            declared=builders.declared(lifetime_days=7, name="ledger-writer"),
            provider="postgresql",
            connection_id=key.connection_id,
            actor=builders.TESTS,
            now=cast.now,
        )

    assert (changed.name, changed.lifetime_days) == ("ledger-writer", 7)
    assert (changed.owner_id, changed.state, changed.created_at) == (
        key.owner_id,
        key.state,
        key.created_at,
    )


def test_nothing_changes_outside_a_transaction(cast, monkeypatch):
    connection = transaction.get_connection()
    monkeypatch.setattr(connection, "in_atomic_block", False)

    with pytest.raises(RuntimeError, match="inside the transaction"):
        services.lock(key_id=cast.alice.pk)


@pytest.mark.parametrize(
    "change",
    [
        {"state": "alive"},
        {"name": "Not Plain"},
        {"lifetime_days": 0},
        {"delivery_mode": "pigeon"},
    ],
)
def test_the_database_refuses_what_no_key_can_be(cast, change):
    key = builders.requested(cast)
    with transaction.atomic(), pytest.raises(IntegrityError), transaction.atomic():
        Key.objects.filter(pk=key.pk).update(**change)


def test_a_key_never_expires_before_it_was_made(cast):
    key = builders.live(cast)
    with transaction.atomic(), pytest.raises(IntegrityError), transaction.atomic():
        Key.objects.filter(pk=key.pk).update(expires_at=cast.now - timedelta(days=1))
