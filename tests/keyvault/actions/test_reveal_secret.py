from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connections

from approvals.models import Request
from approvals.ports import NotPresent, NotVisible
from keyvault.actions import about_keys, reveal_secret
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from keyvault.vault import reveals
from keyvault.vault import selectors as versions
from tests import cast as people

RACERS = 20


def open_door(house, key, *, now=None, person=None):
    now, person = now or house.now, person or house.cast.alice
    door = reveal_secret.door(person=person, name=key.name, number=1, now=now)
    digest = reveal_secret.act_digest(door, person=person)
    proof = people.proof_for(person, digest=digest, now=now)
    return reveal_secret.reveal(person=person, found=door, proof_id=proof, now=now)


@pytest.mark.django_db
def test_an_approved_reveal_shows_the_value_once_and_makes_a_rotation_due(house):
    key = house.create()
    request = house.permit(key)

    opened = open_door(house, key)

    version = versions.by_number(key.pk, 1)
    assert opened.material["password"].reveal() == house.fake.values[version.remote_id]
    assert version.revealed_by == house.cast.alice
    key.refresh_from_db()
    assert key.rotation_cause == reveal_secret.SEEN
    assert key.rotation_due_at == house.now + reveal_secret.ROTATE_WITHIN
    assert Event.objects.get(event="secret.revealed").request_id == request.pk


@pytest.mark.django_db
def test_r8_a_second_reveal_is_refused(house):
    key = house.create()
    house.permit(key)
    open_door(house, key)

    with pytest.raises(reveals.AlreadyRevealed):
        open_door(house, key)


@pytest.mark.django_db
def test_nothing_opens_without_an_approved_request(house):
    key = house.create()
    door = reveal_secret.door(person=house.cast.alice, name=key.name, number=1, now=house.now)
    proof = people.proof_for(house.cast.alice, digest="0" * 64, now=house.now)

    with pytest.raises(reveal_secret.NotRevealable):
        reveal_secret.reveal(person=house.cast.alice, found=door, proof_id=proof, now=house.now)
    key.refresh_from_db()
    assert key.rotation_cause == "cadence"


@pytest.mark.django_db
def test_an_approval_opens_for_a_day_and_no_longer(house):
    key = house.create()
    house.permit(key)

    with pytest.raises(reveal_secret.NotRevealable):
        open_door(house, key, now=house.now + timedelta(hours=25))


@pytest.mark.django_db
def test_a_right_that_was_lost_closes_the_door(house):
    key = house.create()
    house.permit(key)
    key.grants.filter(permission="reveal").update(ended_at=house.now)

    with pytest.raises(NotVisible):
        open_door(house, key)


@pytest.mark.django_db
def test_r26_the_factor_is_bound_to_this_reveal(house):
    key = house.create()
    house.permit(key)
    door = reveal_secret.door(person=house.cast.alice, name=key.name, number=1, now=house.now)
    other = people.proof_for(house.cast.alice, digest="0" * 64, now=house.now)

    with pytest.raises(NotPresent):
        reveal_secret.reveal(person=house.cast.alice, found=door, proof_id=other, now=house.now)
    assert versions.by_number(key.pk, 1).revealed_at is None


@pytest.mark.django_db
def test_nobody_but_the_owner_can_ask(house):
    key = house.create()

    for person in ("bob", "carol", "dave", "erin", "frank", "mallory"):
        with pytest.raises(NotVisible):
            reveal_secret.ask(
                person=getattr(house.cast, person), name=key.name, reason="Let me.", now=house.now
            )


@pytest.mark.django_db
def test_asking_twice_leads_to_what_was_asked(house):
    key = house.create()
    asked = {"person": house.cast.alice, "name": key.name, "reason": "Again.", "now": house.now}
    first = reveal_secret.ask(**asked)
    with pytest.raises(about_keys.AlreadyAsked):
        reveal_secret.ask(**asked)
    house.say(house.cast.bob, first)
    house.work()

    with pytest.raises(about_keys.AlreadyAsked, match="open the reveal page"):
        reveal_secret.ask(**asked)


@pytest.mark.django_db
def test_a_version_that_was_seen_cannot_be_asked_for_again(house):
    key = house.create()
    house.permit(key)
    open_door(house, key)

    with pytest.raises(reveal_secret.NotRevealable, match="Only a new value"):
        reveal_secret.ask(person=house.cast.alice, name=key.name, reason="Again.", now=house.now)


@pytest.mark.django_db
def test_a_reveal_approved_after_the_key_was_revoked_does_not_run(house):
    key = house.create()
    request = reveal_secret.ask(
        person=house.cast.alice, name=key.name, reason="To paste it.", now=house.now
    )
    house.say(house.cast.bob, house.revoke(key))
    house.work()
    house.say(house.cast.bob, request)
    house.work()

    assert Request.objects.get(pk=request.pk).state in {"failed", "invalidated"}


@pytest.mark.django_db(transaction=True)
def test_r8_twenty_at_once_see_the_value_once(house):
    key = house.create()
    house.permit(key)
    start, seen = threading.Barrier(RACERS), []

    def race():
        try:
            start.wait(timeout=30)
            open_door(house, key)
            seen.append("shown")
        except (reveals.AlreadyRevealed, NotPresent) as refused:
            seen.append(type(refused).__name__)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=race) for _ in range(RACERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Counter(seen) == {"shown": 1, "AlreadyRevealed": RACERS - 1}
    assert Event.objects.filter(event="secret.revealed").count() == 1
    assert Key.objects.get(pk=key.pk).rotation_cause == reveal_secret.SEEN
