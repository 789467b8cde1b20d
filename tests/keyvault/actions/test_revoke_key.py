from __future__ import annotations

import pytest
from django.db.models.functions import Now

from approvals import queue
from approvals.models import Job, Request
from approvals.ports import NotPresent, NotVisible
from approvals.views import detail
from keyvault.actions import about_keys, revoke_key
from keyvault.connections.models import Connection
from keyvault.inventory import access
from keyvault.inventory.models import Key
from keyvault.providers import base
from keyvault.vault import selectors as versions
from tests import cast as people
from tests.keyvault.agents import builders
from tests.keyvault.usage.building import used

pytestmark = pytest.mark.django_db


def test_a_revoked_key_works_nowhere_and_stays_readable(house):
    key = house.create()
    request = house.revoke(key)

    house.say(house.cast.bob, request)
    house.work()

    key.refresh_from_db()
    assert (key.state, house.fake.alive(), versions.live(key.pk)) == ("revoked", [], [])
    assert access.permissions(house.cast.alice, key) == {"view"}
    assert Request.objects.get(pk=request.pk).state == "done"


def test_the_plan_lists_the_versions_that_end(house):
    key = house.create()
    plan = revoke_key.plan(person=house.cast.alice, name=key.name).describe()
    rows = {change.field: (change.now, change.then) for change in plan.changes}

    assert rows["State"] == ("Active", "Revoked")
    assert rows["Versions that work"][0][0].startswith("v1: id-kv-")
    assert "cannot be undone" in plan.undo


def test_a_second_request_leads_to_the_first(house):
    key = house.create()
    first = house.revoke(key)

    with pytest.raises(about_keys.AlreadyAsked) as asked:
        house.revoke(key, person=house.cast.frank)

    assert asked.value.request_id == first.pk


def test_a_revoked_key_is_not_revoked_again(house):
    key = house.create()
    house.say(house.cast.bob, house.revoke(key))
    house.work()

    with pytest.raises(NotVisible):
        house.revoke(key)
    with pytest.raises(revoke_key.NotRevocable, match="is revoked"):
        house.revoke(key, person=house.cast.frank)


def test_who_may_only_look_cannot_ask(house):
    key = house.create()

    for person in (house.cast.carol, house.cast.dave, house.cast.mallory):
        with pytest.raises(NotVisible):
            house.revoke(key, person=person)


def test_an_administrator_can_have_an_orphaned_key_revoked(house):
    key = house.create()

    assert house.revoke(key, person=house.cast.frank).kind == "key.revoke"


def test_r26_the_askers_factor_is_bound_to_the_plan_and_used_once(house):
    key, alice = house.create(), house.cast.alice
    shown = revoke_key.plan(person=alice, name=key.name).describe()
    proof = people.proof_for(alice, digest=revoke_key.act_digest(shown), now=house.now)
    other = people.proof_for(alice, digest="0" * 64, now=house.now)
    asked = {"person": alice, "name": key.name, "reason": "Done.", "now": house.now}

    with pytest.raises(NotPresent):
        revoke_key.ask(**asked, proof_id=other)
    revoke_key.ask(**asked, proof_id=proof)
    Request.objects.filter(kind="key.revoke").update(state="withdrawn", ended_at=house.now)
    with pytest.raises(NotPresent):
        revoke_key.ask(**asked, proof_id=proof)


def test_a_key_that_was_never_created_cannot_be_revoked(house):
    house.ask()

    with pytest.raises(NotVisible):
        house.revoke(Key.objects.get())


def test_a_revocation_that_is_taken_up_again_says_nothing_of_another_server(house):
    key = house.create()
    request = house.revoke(key)
    house.say(house.cast.bob, request)
    house.fake.fail("revoke", base.Transient("Busy."))
    house.work()

    Connection.objects.update(revision=2, config={"host": "elsewhere.example.com"})
    Job.objects.filter(state="ready").update(due_at=Now())
    house.work()

    key.refresh_from_db()
    assert key.state == "live", "the server of before still takes the value"
    assert [job.code for job in queue.held()] == ["server_changed"]


def test_a_first_reader_takes_no_signature_back(house):
    key, reader = house.pull(), builders.agent(house.cast)
    request = house.revoke(key)
    used(house.now, key_id=key.pk, agent=reader)
    row = Request.objects.get(pk=request.pk)
    page = detail.context_of(row, house.cast.bob, now=house.now)

    assert page["drift"] == ()
    assert page["risk"][0]["evidence"] == "refund-bot used it in the last 30 days."
    house.say(house.cast.bob, request)
    used(house.now, key_id=key.pk, user=house.cast.carol)
    house.work()
    assert Request.objects.get(pk=request.pk).state == "done"
