"""The pages of rotations: who sees what, what each button does, and what is said when it cannot be."""

from __future__ import annotations

import re
from html import unescape
from uuid import uuid4

import pytest
from django.db import transaction
from django.urls import reverse

from approvals import services as approvals
from approvals.models import Request
from approvals.policy.rules import Rules
from approvals.ports import CannotExecute
from keyvault.actions import defaults, finish_rotation
from keyvault.audit.models import Event
from keyvault.rotation.models import Delivery, Rotation
from keyvault.web import live
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders
from tests.keyvault.rotation.test_running import later

pytestmark = pytest.mark.django_db(transaction=True)


def text(answer):
    return " ".join(unescape(re.sub("<[^>]*>", " ", answer.content.decode())).split())


@pytest.fixture
def owned(key, cast):
    """The key with the grants that its owner and team have."""
    from keyvault.inventory import grants
    from tests.keyvault.vault.rows import WORKER

    rules.DEFAULTS.put(cast.now)
    with transaction.atomic():
        grants.give_at_go_live(key=key, request_id=key.request_id, actor=WORKER, now=cast.now)
    return key


@pytest.fixture
def alice(cast, client_for):
    return client_for(cast.alice)


def page(rotation):
    return reverse("rotation", args=[rotation.pk])


def test_its_owner_has_a_key_rotated_and_policy_agrees_by_itself(owned, alice, fake):
    shown = alice.get(reverse("key-rotate", args=[owned.name]))
    assert "v1 v2" in text(shown).replace("→", "")

    answer = alice.post(
        reverse("key-rotate", args=[owned.name]), {"reason": "Quarterly.", "ticket": ""}
    )

    assert answer.status_code == 302
    assert "Approved" in text(alice.get(answer.url))


def test_a_rotation_shows_who_has_moved_and_by_what_proof(owned, begin, work, alice):
    rotation = begin()
    work(rotation)

    shown = text(alice.get(page(rotation)))

    assert "Rolling out" in shown
    assert "0 of 1 moved" in shown
    assert "Its owner, by hand" in shown
    assert "went from staged to promoting" in shown
    listed = text(alice.get(reverse("rotations") + "?state=open"))
    assert owned.name in listed
    assert "0 of 1" in listed


def test_a_page_names_the_version_of_what_it_was_made_from(owned, begin, work, alice, cast, now):
    rotation = begin()

    def versions():
        found = re.findall(r'data-live-at="(\w+)"', alice.get(page(rotation)).content.decode())
        assert found == [
            live.version(cast.alice, f"{topic}:{rotation.pk}", now=now)
            for topic in ("rotation", "rotation-choices")
        ]
        return found

    planned = versions()
    work(rotation)
    board, choices = versions()

    assert (board != planned[0], choices != planned[1]) == (True, True)
    delivery = Delivery.objects.get(rotation=rotation)
    Delivery.objects.filter(pk=delivery.pk).update(state="failed")
    assert versions()[0] != board
    assert versions()[1] == choices, "what somebody types stays while the choices are the same"


def test_an_auditor_looks_and_decides_nothing(owned, begin, work, cast, client_for, now):
    rotation = begin()
    work(rotation)
    dave = client_for(cast.dave)
    shown = dave.get(page(rotation))

    assert shown.status_code == 200
    assert "Roll back" not in text(shown)
    delivery = Delivery.objects.get(rotation=rotation)
    parts = [f"dependents/{delivery.pk}/{act}/" for act in ("confirm", "skip")]
    for act in ("roll-back/", "extend/", "hurry/", "go-on/", *parts):
        answer = dave.post(f"{page(rotation)}{act}", {"reason": "no"})
        assert answer.status_code == 404
    assert work(rotation).state == "promoting"


def test_who_may_not_see_the_key_sees_no_rotation(owned, begin, cast, client_for):
    rotation = begin()
    mallory = client_for(cast.mallory)
    assert mallory.get(page(rotation)).status_code == 404
    assert mallory.get(reverse("key-rotate", args=[owned.name])).status_code == 404
    assert owned.name not in text(mallory.get(reverse("rotations")))


def test_the_owner_confirms_a_value_that_is_read_by_hand(owned, begin, work, alice):
    rotation = begin()
    work(rotation)
    delivery = Delivery.objects.get(rotation=rotation)

    alice.post(reverse("rotation-confirm", args=[rotation.pk, delivery.pk]))

    held = work(rotation)
    assert (held.state, held.cause) == ("held", "unobserved")
    assert "On v2" in text(alice.get(page(rotation)))


def test_nobody_confirms_for_an_agent(owned, begin, work, alice, cast):
    from django.db import transaction

    from keyvault.dependents import services as dependents
    from tests.keyvault.vault.rows import WORKER

    agent = builders.agent(cast)
    with transaction.atomic():
        dependents.register(
            key=owned, name=agent.name, agent_id=agent.pk, health="reports", now=cast.now,
            actor=WORKER,
        )  # fmt: skip
    rotation = begin()
    work(rotation)
    delivery = Delivery.objects.get(rotation=rotation, dependent__agent=agent)

    answer = alice.post(reverse("rotation-confirm", args=[rotation.pk, delivery.pk]), follow=True)

    assert "says by itself which version it has" in text(answer)
    assert Delivery.objects.get(pk=delivery.pk).state == "restarting"


def test_a_rotation_is_rolled_back_with_a_reason(owned, begin, work, alice):
    rotation = begin()
    work(rotation)
    back = reverse("rotation-roll-back", args=[rotation.pk])

    assert "Say why" in text(alice.post(back, {"reason": ""}, follow=True))
    assert "led back" in text(alice.post(back, {"reason": "wrong day"}, follow=True))

    assert work(rotation).state == "rolled_back"
    assert "Rolled back" in text(alice.get(page(rotation)))
    assert "is rolled back" in text(alice.post(back, {"reason": "again"}, follow=True))


def test_what_has_leaked_is_waited_for_less(owned, begin, work, alice, settings):
    settings.ROTATION_GRACE_SECONDS, settings.ROTATION_QUIET_SECONDS = 86_400, 300
    settings.ROTATION_BROWNOUT_SECONDS = 600
    rotation = begin()
    work(rotation)
    hurry = reverse("rotation-hurry", args=[rotation.pk])
    assert "The old version has leaked" in text(alice.get(page(rotation)))

    assert "Say why" in text(alice.post(hurry, {"reason": " "}, follow=True))
    done = text(alice.post(hurry, {"reason": "It was in a log."}, follow=True))

    assert "The old version has leaked" not in done
    assert "as in an incident: It was in a log." in done
    rotation.refresh_from_db()
    found = [rotation.terms[f"{name}_s"] for name in ("grace", "quiet", "brownout")]
    assert found == [900, 30, 0]
    assert "waits for nothing that can be cut" in text(
        alice.post(hurry, {"reason": "again"}, follow=True)
    )


BACK = "goes back to the old version, and waits for nothing that can be cut"
END = "is ending the old version already, and waits for nothing that can be cut"


@pytest.mark.parametrize(
    ("stands", "why"),
    [
        ({"state": "rolling_back"}, BACK),
        ({"state": "held", "held_from": "rolling_back"}, BACK),
        ({"wants_back": True}, BACK),
        ({"state": "revoking"}, END),
        ({"state": "revoke_verified"}, END),
        ({"state": "held", "held_from": "revoking"}, END),
    ],
)
def test_what_goes_back_or_is_at_its_end_waits_no_less(
    owned, begin, work, alice, settings, stands, why
):
    settings.ROTATION_GRACE_SECONDS = 86_400
    rotation = begin()
    work(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(**stands)

    assert "The old version has leaked" not in text(alice.get(page(rotation)))
    hurry = reverse("rotation-hurry", args=[rotation.pk])
    refused = text(alice.post(hurry, {"reason": "It was in a log."}, follow=True))

    assert why in refused
    assert Rotation.objects.get(pk=rotation.pk).terms == rotation.terms
    assert not Event.objects.filter(event="rotation.hurried").exists()


def judged_by(cast, **rules_of_it):
    """Have an installation's own policy for incidents."""
    policy = {"name": "Incidents", "scope": {"kind": ["key.rotate"], "trigger": ["incident"]}}
    with transaction.atomic():
        approvals.save_policy(
            rules=Rules.from_json(policy | rules_of_it), actor=defaults.SETUP, now=cast.now
        )


def test_where_policy_asks_others_about_incidents_waiting_less_asks_them(
    owned, begin, work, alice, cast, settings
):
    judged_by(cast, stages=[{"name": "Security", "groups": [defaults.SECURITY]}])
    settings.ROTATION_GRACE_SECONDS = 86_400
    rotation = begin()
    work(rotation)
    hurry = reverse("rotation-hurry", args=[rotation.pk])

    asked = alice.post(hurry, {"reason": "It was in a log."}, follow=True)

    request = Request.objects.get(kind="key.rotate_many")
    assert (request.state, request.reason) == ("pending", "It was in a log.")
    assert request.payload["key_ids"] == [str(owned.pk)]
    assert asked.redirect_chain[-1][0] == reverse("request", args=[request.pk])
    assert "Nothing is cut before they do" in text(asked)
    assert str(request.pk) in alice.get(f"/keys/{owned.name}/").content.decode()
    assert alice.post(hurry, {"reason": "Again."}).url == reverse("request", args=[request.pk])
    assert Request.objects.filter(kind="key.rotate_many").count() == 1
    assert Rotation.objects.get(pk=rotation.pk).terms == rotation.terms
    assert not Event.objects.filter(event="rotation.hurried").exists()


def test_the_incident_of_others_about_hidden_keys_stays_hidden(
    owned, begin, work, alice, cast, settings
):
    judged_by(cast, stages=[{"name": "Security", "groups": [defaults.SECURITY]}])
    settings.ROTATION_GRACE_SECONDS = 86_400
    rotation = begin()
    work(rotation)
    hurry = reverse("rotation-hurry", args=[rotation.pk])
    alice.post(hurry, {"reason": "It was in a log."})
    others = Request.objects.get(kind="key.rotate_many")
    others.payload["key_ids"].append(str(uuid4()))
    Request.objects.filter(pk=others.pk).update(requester=cast.frank, payload=others.payload)

    answer = alice.post(hurry, {"reason": "It was in a log."})

    own = Request.objects.exclude(pk=others.pk).get(kind="key.rotate_many")
    assert answer.url == reverse("request", args=[own.pk])


def test_where_policy_forbids_incidents_nothing_waits_less(
    owned, begin, work, alice, cast, settings
):
    judged_by(cast, auto="deny")
    settings.ROTATION_GRACE_SECONDS = 86_400
    rotation = begin()
    work(rotation)

    hurry = reverse("rotation-hurry", args=[rotation.pk])
    refused = text(alice.post(hurry, {"reason": "It was in a log."}, follow=True))

    assert "Incidents" in refused
    assert not Request.objects.filter(kind="key.rotate_many").exists()
    assert Rotation.objects.get(pk=rotation.pk).terms == rotation.terms


def test_what_is_held_on_its_way_can_still_wait_less(owned, begin, work, alice, settings):
    settings.ROTATION_GRACE_SECONDS = 86_400
    rotation = begin()
    work(rotation)
    Rotation.objects.filter(pk=rotation.pk).update(state="held", held_from="promoting")

    assert "The old version has leaked" in text(alice.get(page(rotation)))
    hurry = reverse("rotation-hurry", args=[rotation.pk])
    alice.post(hurry, {"reason": "It was in a log."}, follow=True)

    assert Rotation.objects.get(pk=rotation.pk).terms["grace_s"] == 900


def test_a_held_rotation_offers_its_ways_out(owned, begin, work, alice, fake):
    rotation = begin()
    work(rotation)
    later(rotation, 101)
    work(rotation)

    shown = text(alice.get(page(rotation)))
    assert "did not confirm the new version" in shown
    assert "Try on" in shown
    assert "Go on without proof" in shown

    form = alice.get(reverse("rotation-finish", args=[rotation.pk]))
    assert "Its owner, by hand fails if it still uses the old version." in text(form)
    asked = alice.post(
        reverse("rotation-finish", args=[rotation.pk]), {"reason": "It is gone.", "ticket": ""}
    )
    assert asked.status_code == 302
    assert "To go on has been asked" in text(alice.get(page(rotation)))
    assert len(fake.alive()) == 2, "nothing ends before others have approved"

    alice.post(reverse("rotation-extend", args=[rotation.pk]), {"reason": "on Monday"})
    assert work(rotation).state == "promoting"


def test_an_approval_to_go_on_is_for_the_hold_that_it_names(
    owned, begin, work, cast, fake, now, claims
):
    rotation = begin()
    work(rotation)
    later(rotation, 101)
    work(rotation)
    asked = finish_rotation.ask(
        person=cast.alice, rotation_id=rotation.pk, reason="It is gone.", now=now
    )
    action = finish_rotation.FinishRotation(rotation_id=rotation.pk)
    held = Rotation.objects.filter(pk=rotation.pk)

    held.update(held_from="rolling_back")
    with pytest.raises(CannotExecute, match="than approved"):
        action.execute(request_id=asked.pk, run=claims.claim())

    held.update(held_from="promoting")
    assert action.execute(request_id=asked.pk, run=claims.claim())
    assert work(rotation).state == "completed"


def test_a_dependent_is_skipped_only_with_a_fresh_code(owned, begin, work, alice):
    rotation = begin()
    work(rotation)
    delivery = Delivery.objects.get(rotation=rotation)
    skip = reverse("rotation-excuse", args=[rotation.pk, delivery.pk])
    assert "it fails" in text(alice.get(skip))
    assert alice.post(skip, {"reason": ""}).status_code == 422

    answer = alice.post(skip, {"reason": "switched off"})

    assert "code" in text(answer).lower()
    assert Delivery.objects.get(pk=delivery.pk).state == "restarting"
