"""Changing a live key: judged by the stricter of before and after, done in one step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import transaction

from approvals import selectors
from approvals import services as approvals
from approvals.models import Request
from approvals.policy.rules import Rules
from approvals.ports import NotVisible
from keyvault.actions import about_keys, change_key, defaults
from keyvault.actions.change_key import Use
from keyvault.audit.models import Event
from keyvault.inventory.models import Grant
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db


def change(house, key, person=None, **changes):
    return change_key.ask(
        person=person or house.cast.alice,
        name=key.name,
        use=replace(Use.of(key), **changes),
        reason="The agent moved.",
        now=house.now,
    )


def governing(house, key, **changes) -> str:
    action = change_key.ChangeKey(key_id=key.pk, use=replace(Use.of(key), **changes))
    return selectors.preview(action, house.cast.alice, now=house.now).deciders.policy


def policy(now, **scope) -> None:
    rules = Rules.from_json(
        {
            "name": "Labelled keys",
            "scope": {"kind": ["key.change"]} | scope,
            "auto": "approve",
        }
    )
    with transaction.atomic():
        approvals.save_policy(rules=rules, actor=defaults.SETUP, now=now)


def test_an_approved_change_holds_and_the_value_stays(house):
    key = house.create()
    alive = house.fake.alive()
    request = change(house, key, delivery_mode="pull", volume_per_day=5000)

    house.say(house.cast.bob, request)
    house.work()

    key.refresh_from_db()
    assert (key.delivery_mode, key.volume_per_day, key.state) == ("pull", 5000, "live")
    assert house.fake.alive() == alive
    told = Event.objects.get(event="key.changed")
    assert told.fields == {"fields": ["delivery_mode", "volume_per_day"]}
    assert Request.objects.get(pk=request.pk).outcome["facts"]["Gateways"]


def test_the_plan_names_only_what_changes(house):
    key = house.create()
    action = change_key.ChangeKey(
        key_id=key.pk, use=replace(Use.of(key), allowed_hosts=(), volume_per_day=99)
    )
    rows = {change.field: change for change in action.describe().changes}

    assert set(rows) == {"Allowed hosts", "Calls a day", "Environment"}
    assert rows["Allowed hosts"].warning == "Any host"
    assert "Any host" in {point.title for point in action.risk()}


def test_agents_lose_a_key_that_is_no_longer_fetched(house):
    agent, key = builders.agent(house.cast), house.pull()
    builders.granted(house.cast, agent, key)
    request = change(house, key, delivery_mode="reveal")
    plan = Request.objects.get(pk=request.pk).plan

    house.say(house.cast.bob, request)
    house.work()

    assert plan["breaks"] == ["Every agent loses the right to use it, at once."]
    assert not Grant.objects.filter(agent=agent, ended_at=None).exists()


def test_a_label_cannot_bring_a_laxer_policy_along(house):
    policy(house.now, label=["lax"])
    plain = house.create()
    lax = house.create(name="lax-key", labels=("lax",))

    assert governing(house, plain, labels=("lax",)) == "Changes of keys elsewhere"
    assert governing(house, lax, labels=()) == "Changes of keys elsewhere"
    assert governing(house, lax, volume_per_day=5) == "Labelled keys"


def test_what_holds_already_is_not_asked_for(house):
    with pytest.raises(change_key.NothingToChange):
        change(house, house.create())


def test_one_change_waits_at_a_time(house):
    key = house.create()
    first = change(house, key, volume_per_day=1)

    with pytest.raises(about_keys.AlreadyAsked) as asked:
        change(house, key, volume_per_day=2)

    assert asked.value.request_id == first.pk


def test_r31_only_its_keepers_ask_and_rename(house):
    key = house.create()

    for person in (house.cast.bob, house.cast.carol, house.cast.dave, house.cast.mallory):
        with pytest.raises(NotVisible):
            change(house, key, person, volume_per_day=1)
        with pytest.raises(NotVisible):
            change_key.rename(person=person, name=key.name, title="Mine", now=house.now)


def test_a_title_is_free(house):
    key = house.create()

    change_key.rename(person=house.cast.alice, name=key.name, title="Ledger", now=house.now)

    key.refresh_from_db()
    assert (key.title, key.name) == ("Ledger", "ledger-reader")
    assert Event.objects.get(event="key.renamed").fields == {"title": "Ledger"}


def test_a_revoked_key_is_not_changed(house):
    key = house.create()
    request = change(house, key, volume_per_day=1)
    house.say(house.cast.bob, house.revoke(key))
    house.work()
    house.say(house.cast.bob, request)
    house.work()

    assert Request.objects.get(pk=request.pk).state == "failed"
    with pytest.raises(change_key.NotChangeable):
        change(house, key, house.cast.frank, volume_per_day=2)
