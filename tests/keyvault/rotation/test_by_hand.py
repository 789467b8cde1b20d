"""A rotation whose values a person makes and ends, from its page to its end."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction
from django.urls import reverse

from approvals.ports import NeedsPerson
from keyvault.connections import intake, issuing
from keyvault.inventory import grants
from keyvault.rotation import choosing
from keyvault.rotation.models import Delivery
from keyvault.vault import selectors as versions
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.rotation.test_pages import text
from tests.keyvault.rotation.test_running import later
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
FIRST, SECOND = "pasted-canary-one-41c", "pasted-canary-two-77d"
HANDED = {"value_value": SECOND, "confirm": "1"}


@pytest.fixture
def fake(_registry):
    return fakes.install(fakes.Paste())


@pytest.fixture
def key(cast, where, request_id, claims):
    """A live key of alice's whose first value was handed over."""
    made = rows.key(cast, where, request_id=request_id)
    with pytest.raises(NeedsPerson):
        issuing.issue(key=made, request_id=request_id, run=claims.claim(), actor=WORKER)
    intake.intake(key=made, person=cast.alice, typed={"value": FIRST}, now=cast.now)
    issuing.issue(key=made, request_id=request_id, run=claims.claim(), actor=WORKER)
    made.state, made.live_at = "live", cast.now
    made.expires_at = cast.now.replace(year=cast.now.year + 1)
    made.save()
    rules.DEFAULTS.put(cast.now)
    with transaction.atomic():
        grants.give_at_go_live(key=made, request_id=request_id, actor=WORKER, now=cast.now)
    return made


def test_a_person_hands_the_new_value_over_and_ends_the_old_one(
    begin, work, key, cast, client_for, now
):
    alice, carol, dave = (client_for(who) for who in (cast.alice, cast.carol, cast.dave))
    hand, rotation = reverse("key-intake", args=[key.name]), begin()
    page = reverse("rotation", args=[rotation.pk])
    assert work(rotation).state == "creating"

    for address in (page, reverse("key", args=[key.name])):
        assert "make the new value of this key by hand" in text(alice.get(address))
        assert hand in alice.get(address).content.decode()
        assert hand in carol.get(address).content.decode()
        assert hand not in dave.get(address).content.decode(), "an auditor hands nothing over"
    assert f"Hand over the new value of {key.name}" in text(alice.get(hand))
    assert dave.post(hand, HANDED).status_code == 404
    assert alice.post(hand, HANDED).status_code == 302

    assert work(rotation).state == "promoting"
    assert versions.current(key.pk).number == 2
    choosing.confirm(delivery_id=Delivery.objects.get().pk, actor=WORKER, now=now)
    work(rotation)
    later(rotation, 5)
    assert work(rotation).cause == "unobserved"
    with transaction.atomic():
        choosing.go_on(rotation_id=rotation.pk, actor=WORKER, now=now, request_id=uuid4())
    assert work(rotation).state == "revoking"

    for address in (page, reverse("key", args=[key.name])):
        assert "end the old value of this key by hand" in text(alice.get(address))
    assert f"Confirm that the old value of {key.name} has ended" in text(alice.get(hand))
    assert alice.post(hand, {"confirm": "1"}).status_code == 302
    assert work(rotation).state == "completed"
    assert hand not in alice.get(page).content.decode()
    assert SECOND not in alice.get(page).content.decode()
