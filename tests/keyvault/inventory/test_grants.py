from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection as database
from django.db import transaction
from django.db.models import ProtectedError
from django.utils import timezone
from guardian.shortcuts import get_objects_for_user

from approvals.ports import NotVisible
from keyvault.accounts.models import User
from keyvault.inventory import access, grants, services
from keyvault.inventory.models import Grant, Key
from tests import cast as people
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db


def give(key, holder, permission="use", **spans):
    with transaction.atomic():
        return grants.grant(
            key=key,
            holder=holder,
            permission=permission,
            reason="test",
            actor=builders.TESTS,
            now=timezone.now(),
            **spans,
        )


def may(person, key, permission="use") -> bool:
    """Ask every door; they must agree."""
    fresh = User.objects.get(pk=person.pk)
    direct = fresh.has_perm(f"keyvault.{permission}_key", key)
    listed = get_objects_for_user(fresh, f"keyvault.{permission}_key", Key).filter(pk=key.pk)
    gate = permission in access.permissions(fresh, key)
    assert direct == listed.exists() == gate
    return direct


def test_a_grant_holds_at_once_and_for_nobody_else(cast):
    key = builders.live(cast)

    give(key, cast.mallory)

    assert may(cast.mallory, key)
    assert not may(cast.erin, key)


def test_a_grant_that_starts_later_does_not_hold_yet(cast):
    key = builders.live(cast)

    give(key, cast.mallory, starts_at=timezone.now() + timedelta(hours=1))

    assert not may(cast.mallory, key)


def test_a_grant_runs_out_by_itself(cast):
    key = builders.live(cast)
    early = timezone.now() - timedelta(hours=2)

    give(key, cast.mallory, starts_at=early, ends_at=early + timedelta(hours=1))

    assert not may(cast.mallory, key)


def test_a_grant_that_was_ended_is_gone_at_the_next_statement(cast):
    key = builders.live(cast)
    held = give(key, cast.mallory)

    with transaction.atomic():
        grants.end_grant(grant=held, actor=builders.TESTS, now=timezone.now())

    assert not may(cast.mallory, key)
    assert Grant.objects.get(pk=held.pk).ended_at is not None


def test_a_grant_to_a_team_is_lost_by_leaving_it(cast):
    key = builders.live(cast)
    give(key, cast.payments.group)
    assert may(cast.carol, key)

    people.leave(cast.carol, "payments", now=timezone.now())

    assert not may(cast.carol, key)


def test_r36_a_deactivated_person_has_no_rights_within_one_request(cast):
    key = builders.live(cast)
    assert may(cast.alice, key, "reveal")

    User.objects.filter(pk=cast.alice.pk).update(is_active=False)

    alice = User.objects.get(pk=cast.alice.pk)
    assert not alice.has_perm("keyvault.reveal_key", key)
    assert access.permissions(alice, key) == frozenset()
    assert not access.visible_keys(alice).exists()


def test_r36_a_new_key_inherits_nothing_from_one_of_the_same_name(cast):
    old = builders.requested(cast)
    give(old, cast.mallory, "view")
    with transaction.atomic():
        services.release(
            key_id=old.pk,
            request_id=old.request_id,
            state="rejected",
            actor=builders.TESTS,
            now=timezone.now(),
        )

    new = builders.live(cast)

    assert new.name == old.name
    assert not may(cast.mallory, new, "view")
    assert not Grant.objects.filter(key=old, ended_at=None).exists()


def test_r36_a_key_with_a_history_cannot_be_deleted(cast):
    with pytest.raises(ProtectedError):
        builders.live(cast).delete()


def test_granting_twice_gives_one_grant_and_one_event(cast):
    key = builders.live(cast)

    assert give(key, cast.mallory).pk == give(key, cast.mallory).pk


def test_a_grant_after_one_that_ran_out_has_its_own_history(cast):
    key = builders.live(cast)
    early = timezone.now() - timedelta(hours=2)
    first = give(key, cast.mallory, starts_at=early, ends_at=early + timedelta(hours=1))

    second = give(key, cast.mallory)

    assert second.pk != first.pk
    assert may(cast.mallory, key)


def test_the_owner_gets_their_rights_and_the_team_sees(cast):
    key = builders.live(cast)

    held = access.permissions(cast.alice, key)
    assert held == {"view", "reveal", "revoke", "manage", "rotate"}
    assert access.permissions(cast.carol, key) == {"view"}
    assert access.permissions(cast.bob, key) == frozenset()


def test_roles_give_sight_and_administration_and_never_the_value(cast):
    key = builders.live(cast)

    assert access.permissions(cast.dave, key) == {"view"}
    assert access.permissions(cast.frank, key) == {"view", "revoke", "manage", "rotate"}
    assert access.permissions(cast.erin, key) == frozenset()


def test_hidden_missing_and_released_keys_are_refused_alike(cast):
    key = builders.live(cast)
    gone = builders.requested(cast, name="never-was")
    with transaction.atomic():
        services.release(
            key_id=gone.pk,
            request_id=gone.request_id,
            state="withdrawn",
            actor=builders.TESTS,
            now=timezone.now(),
        )

    for person, name in [
        (cast.mallory, key.name),
        (cast.alice, "no-such-key"),
        (cast.dave, gone.name),
    ]:
        with pytest.raises(NotVisible):
            access.access_key(person, name, "view")


def test_a_look_up_of_ones_keys_reads_an_index_and_never_every_grant(cast):
    builders.live(cast)
    with database.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(
            "EXPLAIN SELECT content_object_id FROM keyvault_live_user_grant WHERE user_id = %s",
            [cast.alice.pk],
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'keyvault_grant'")
        indexes = {row[0] for row in cursor.fetchall()}

    # Which of the fitting indexes the planner takes on so few rows is its own affair.
    assert "Seq Scan on keyvault_grant" not in plan
    assert {"keyvault_live_user_grant_idx", "keyvault_live_group_grant_idx"} <= indexes
