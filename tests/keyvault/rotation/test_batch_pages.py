"""The pages of batches: choosing and asking, following by numbers, stopping, and who sees what."""

from __future__ import annotations

import re

import pytest
from django.db import transaction
from django.urls import reverse

from approvals import services as approvals
from approvals.models import Request
from approvals.policy.rules import Rules
from keyvault.actions import defaults, rotate_keys
from keyvault.actions.rotate_keys import RotateKeys
from keyvault.audit.models import Event
from keyvault.connections.models import Connection
from keyvault.inventory import grants
from keyvault.inventory.models import Key
from keyvault.inventory.selectors import Filters
from keyvault.rotation import batches, progress
from keyvault.rotation.models import Rotation, RotationBatch
from keyvault.web import live
from tests.keyvault.actions import rules
from tests.keyvault.rotation.batches.conftest import batch, issued, limit, some, turn  # noqa: F401
from tests.keyvault.rotation.test_pages import text
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
MANY = "/rotations/many/"


@pytest.fixture
def alice(cast, client_for):
    return client_for(cast.alice)


@pytest.fixture
def owned(some, cast):  # noqa: F811
    """Eight keys with the grants that alice and her team have."""
    rules.DEFAULTS.put(cast.now)
    with transaction.atomic():
        for key in some:
            grants.give_at_go_live(key=key, request_id=key.request_id, actor=WORKER, now=cast.now)
    return some


def ask(client, address=MANY, **more):
    """Post what the form of a choice of keys was shown with."""
    page = client.get(address).content.decode()
    shown = re.search(r'name="shown" value="(\w+)"', page)
    data = {"trigger": "manual", "reason": "Quarterly.", "ticket": "", "shown": shown and shown[1]}
    return client.post(address, data | more)


def execute():
    """Run the newest request as a worker does."""
    from datetime import timedelta

    from django.utils import timezone

    from approvals import queue

    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())
    return RotationBatch.objects.get()


def test_the_list_of_keys_leads_to_their_rotation_and_policy_agrees_by_itself(owned, alice):
    listed = alice.get("/keys/?q=agent-0").content.decode()
    assert f'href="{MANY}?q=agent-0"' in listed
    shown = text(alice.get(f"{MANY}?q=agent-0"))
    assert "Make a new version of 8 keys at Orders" in shown
    assert "at most 3 at a time" in shown

    answer = ask(alice, f"{MANY}?q=agent-0")

    assert answer.status_code == 302
    assert Request.objects.get().state == "approved"
    made = execute()
    followed = text(alice.get(reverse("rotation-batch", args=[made.pk])))
    assert "Rotation of 8 keys" in followed
    assert "0 of 8 done" in followed
    assert f"/rotations/batches/{made.pk}/" in alice.get(answer.url).content.decode()
    assert "8 keys" in text(alice.get("/rotations/"))


def test_what_was_not_shown_is_not_asked_for(owned, issued, alice, cast):  # noqa: F811
    page = alice.get(MANY).content.decode()
    shown = re.search(r'name="shown" value="(\w+)"', page)[1]
    [late] = issued("late-key")
    with transaction.atomic():
        grants.give_at_go_live(key=late, request_id=late.request_id, actor=WORKER, now=cast.now)

    answer = alice.post(MANY, {"trigger": "manual", "reason": "Now.", "shown": shown})

    assert answer.status_code == 422
    assert "Other keys fit these filters by now" in text(answer)
    assert not Request.objects.exists()
    again = re.search(r'name="shown" value="(\w+)"', answer.content.decode())[1]
    assert (
        alice.post(MANY, {"trigger": "manual", "reason": "Now.", "shown": again}).status_code == 302
    )


def test_nothing_to_rotate_and_too_much_are_refused_in_words(
    owned, alice, cast, client_for, monkeypatch
):
    assert "None of these keys is active and yours" in text(alice.get(f"{MANY}?q=nothing"))
    assert "None of these keys" in text(client_for(cast.mallory).get(MANY))
    assert "None of these keys" in text(client_for(cast.dave).get(MANY)), "to see is not to rotate"
    monkeypatch.setattr(batches, "MOST", 7)
    assert "These are 8 keys; at most 7" in text(alice.get(MANY))
    assert alice.post(MANY, {"trigger": "manual", "reason": "x", "shown": "x"}).status_code == 422
    assert alice.get(f"{MANY}?color=red").status_code == 400


def test_an_incident_says_what_it_cuts(owned, alice, settings):
    settings.ROTATION_INCIDENT_GRACE_SECONDS = 60

    answer = ask(alice, trigger="incident", reason="The vendor was broken into.")

    plan = text(alice.get(answer.url))
    assert "An incident" in plan
    assert "0:01:00" in plan
    assert execute().trigger == "incident"


def test_a_batch_is_followed_live_and_stopped_with_a_reason(owned, alice, cast, now, batch):  # noqa: F811
    made = batch(owned)
    page, stop = (
        reverse(name, args=[made.pk]) for name in ("rotation-batch", "rotation-batch-stop")
    )

    def versions():
        found = re.findall(r'data-live-at="(\w+)"', alice.get(page).content.decode())
        assert found == [
            live.version(cast.alice, f"{topic}:{made.pk}", now=now)
            for topic in ("batch", "batch-choices")
        ]
        return found

    before = versions()
    turn(made, now)
    board, choices = versions()
    assert (board != before[0], choices == before[1]) == (True, True)
    shown = text(alice.get(page))
    assert "3 of 3" in shown
    assert "Every place is taken" in shown
    rotation = Rotation.objects.first()
    Rotation.objects.filter(pk=rotation.pk).update(state="held", held_from="promoting")
    assert "1 of the open ones waits for a person and keeps a place" in text(alice.get(page))
    assert owned[7].name in text(alice.get(f"{page}?state=waiting"))
    assert "Its batch" in text(alice.get(reverse("rotation", args=[rotation.pk])))

    assert "Say why" in text(alice.post(stop, {"reason": ""}, follow=True))
    assert "5 are left out" in text(alice.post(stop, {"reason": "Wrong list."}, follow=True))

    shown = text(alice.get(page))
    assert "Wrong list." in shown
    assert "The batch was stopped" in shown
    assert "Begin no more" not in shown
    assert versions()[1] != choices
    assert "begun or skipped already" in text(alice.post(stop, {"reason": "x"}, follow=True))


def test_who_may_not_see_the_keys_sees_no_batch(owned, cast, client_for, batch):  # noqa: F811
    made = batch(owned)
    page = reverse("rotation-batch", args=[made.pk])
    mallory, dave = client_for(cast.mallory), client_for(cast.dave)

    assert mallory.get(page).status_code == 404
    assert mallory.post(f"{page}stop/", {"reason": "x"}).status_code == 404
    assert mallory.post(f"{page}stop/", {"reason": ""}).status_code == 404
    assert "keys" not in text(mallory.get("/rotations/")).partition("Many at once")[2]
    assert dave.get(page).status_code == 200
    assert "Begin no more" not in text(dave.get(page))
    assert dave.post(f"{page}stop/", {"reason": "x"}).status_code == 404
    assert not RotationBatch.objects.get().stopped_at


def test_a_key_that_its_asker_no_longer_sees_is_counted_and_not_named(owned, alice, cast, batch):  # noqa: F811
    made = batch(owned)
    lost = owned[0]
    Key.objects.filter(pk=lost.pk).update(released_at=None)
    from keyvault.inventory.models import Grant

    Grant.objects.filter(key=lost).update(ended_at=cast.now)

    shown = text(alice.get(reverse("rotation-batch", args=[made.pk])))

    assert "0 of 8 done" in shown
    assert lost.name not in shown
    assert owned[1].name in shown


def strict(cast, kind, **scope):
    """Have an installation's own policy for a kind, which asks the security team."""
    policy = {
        "name": "Own rule",
        "scope": {"kind": [kind], **scope},
        "stages": [{"name": "Security", "groups": [defaults.SECURITY]}],
    }
    with transaction.atomic():
        approvals.save_policy(rules=Rules.from_json(policy), actor=defaults.SETUP, now=cast.now)


@pytest.mark.parametrize("kind", ["key.rotate", "key.rotate_many"])
def test_a_stricter_policy_for_one_key_governs_many(owned, alice, cast, kind):
    strict(cast, kind, provider=["fake"])

    ask(alice)

    request = Request.objects.get()
    assert request.state == "pending"
    assert str(request.pk) in alice.get(f"/keys/{owned[0].name}/").content.decode()


def test_whoever_decides_for_the_owners_team_is_in_all_teams(owned, cast):
    action = rotate_keys.plan(person=cast.alice, keys=owned)
    assert action.people("owner_team") >= {cast.alice.pk, cast.carol.pk}
    Key.objects.filter(pk=owned[0].pk).update(team=cast.security.group, owner=cast.mallory)

    assert action.people("owner_team") == frozenset()
    assert action.people("owner") == {cast.alice.pk, cast.mallory.pk}


def test_a_connection_that_leads_elsewhere_since_is_not_called(owned, alice):
    ask(alice)
    Connection.objects.update(config={"host": "elsewhere.example.com"})
    from datetime import timedelta

    from django.utils import timezone

    from approvals import queue

    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())

    assert Request.objects.get().state in {"invalidated", "failed"}
    assert not RotationBatch.objects.exists()


def test_what_is_stored_rebuilds_the_same_act(owned, cast):
    action = rotate_keys.plan(person=cast.alice, keys=owned, trigger="incident", reason="x")

    assert RotateKeys.from_payload(action.to_payload()) == action
    with pytest.raises(ValueError, match="other fields"):
        RotateKeys.from_payload(action.to_payload() | {"more": 1})


def test_a_choice_holds_only_active_keys_of_the_chooser(owned, cast):
    Key.objects.filter(pk=owned[0].pk).update(state="suspended")

    mine = rotate_keys.of_filters(cast.alice, Filters(connection="orders"), now=cast.now)
    found, unknown = rotate_keys.of_names(cast.alice, ["agent-01", "nothing", "agent-02"])

    assert len(mine) == 7
    assert ([key.name for key in found], unknown) == (["agent-01", "agent-02"], [1])
    assert not rotate_keys.of_filters(cast.dave, Filters(), now=cast.now).exists()
    assert rotate_keys.of_filters(cast.frank, Filters(), now=cast.now).count() == 7
    assert Event.objects.exists()


def test_executing_twice_makes_one_batch(owned, alice, cast, now):
    from tests.keyvault.connections import fakes

    ask(alice)
    made = execute()
    request = Request.objects.get()
    action = RotateKeys.from_payload(request.payload)

    action.execute(request_id=request.pk, run=fakes.Claims(now, request.pk).claim())

    assert RotationBatch.objects.get() == made
    assert progress.figures(made.pk).total == 8
