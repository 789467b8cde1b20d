"""Changing several live keys by one request: judged by the strictest of all, done together or not at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from django.db import transaction
from django.urls import reverse

from approvals import selectors
from approvals import services as approvals
from approvals.models import Request
from approvals.policy.rules import Rules
from approvals.ports import NotVisible
from keyvault.actions import about_keys, change_key, change_keys, defaults
from keyvault.actions.change_key import NotChangeable, NothingToChange, Use
from keyvault.actions.change_keys import ChangeKeys, TooDifferent, Wanted
from keyvault.agents import services as agents
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from tests.keyvault.agents import builders
from tests.races import Racer, await_somebody_waiting

pytestmark = pytest.mark.django_db
HERE, THERE = "ledger-reader", "orders-reader"


@pytest.fixture
def readers(house) -> list[Key]:
    return [house.pull(name=name) for name in (HERE, THERE)]


def wants(names=(HERE, THERE), **fields):
    return [Wanted(name, {"volume_per_day": 77} | fields) for name in names]


def ask(house, wanted=None, person=None, **more):
    return change_keys.ask(
        person=person or house.cast.alice,
        wanted=wanted or wants(),
        reason="As in the file.",
        now=house.now,
        **more,
    )


def policy(now, name="Own rule", **rules) -> None:
    facts = {"name": name, "scope": {"kind": ["key.change"]}} | rules
    with transaction.atomic():
        approvals.save_policy(rules=Rules.from_json(facts), actor=defaults.SETUP, now=now)


def action_of(asked) -> ChangeKeys:
    return ChangeKeys.from_payload(Request.objects.get(pk=asked.request.pk).payload)


def test_one_request_changes_all_keys_with_an_event_each(house, readers):
    asked = ask(house, [*wants([HERE]), Wanted(THERE, {"labels": ("billing",)})])

    row = asked.request
    assert (asked.is_new, row.kind, row.state) == (True, "key.change_many", "pending")
    house.say(house.cast.bob, row)
    house.work()

    found = {key.name: key for key in Key.objects.all()}
    assert (found[HERE].volume_per_day, found[HERE].labels) == (77, [])
    assert (found[THERE].volume_per_day, found[THERE].labels) == (1000, ["billing"])
    told = Event.objects.filter(event="key.changed", request_id=row.pk)
    assert {event.subject_label: event.fields for event in told} == {
        HERE: {"fields": ["volume_per_day"]},
        THERE: {"fields": ["labels"]},
    }
    assert Request.objects.get(pk=row.pk).outcome["facts"]["Keys"] == f"{HERE}, {THERE}"


def test_each_key_of_it_shows_the_request_to_whoever_may_see_it(house, readers, client_for):
    house.pull(name="left-alone")
    asked = ask(house)
    link = reverse("request", args=[asked.request.pk])

    def shown(person, name):
        return link in client_for(person).get(f"/keys/{name}/").content.decode()

    assert [shown(house.cast.alice, name) for name in (HERE, THERE, "left-alone")] == [
        True,
        True,
        False,
    ]
    request = Request.objects.get(pk=asked.request.pk)
    approvals.withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)
    assert not shown(house.cast.alice, HERE)


def test_the_plan_names_each_change_with_its_key(house, readers):
    plan = action_of(ask(house, wants(allowed_hosts=()))).describe()

    rows = {change.field: change for change in plan.changes}
    assert set(rows) == {
        f"{name} of {key}" for name in ("Allowed hosts", "Calls a day") for key in (HERE, THERE)
    } | {"Environments"}
    assert rows[f"Allowed hosts of {HERE}"].warning == "Any host"
    assert HERE in plan.sentence
    assert {"Any host", "Many at once"} <= {point.title for point in action_of_open().risk()}


def action_of_open() -> ChangeKeys:
    return ChangeKeys.from_payload(Request.objects.get(kind="key.change_many").payload)


def test_one_key_alone_is_asked_as_the_form_asks_it(house, readers):
    asked = ask(house, [*wants([HERE]), Wanted(THERE, {"volume_per_day": 1000})])

    assert asked.request.kind == "key.change"
    assert asked.request.subject_label == HERE


def test_the_same_again_leads_to_the_request_that_waits(house, readers):
    first = ask(house)

    second = ask(house, list(reversed(wants())))

    assert (second.is_new, second.request.pk) == (False, first.request.pk)
    assert Request.objects.filter(kind="key.change_many").count() == 1


def test_the_same_of_somebody_else_is_another_request(house, readers):
    first = ask(house)

    with pytest.raises(about_keys.AlreadyAsked) as asked:
        ask(house, person=house.cast.frank)

    assert asked.value.request_id == first.request.pk


@pytest.mark.parametrize("order", ["many first", "one first"])
def test_a_key_waits_for_one_change_whoever_asks_how(house, readers, order):
    one = replace(Use.of(readers[0]), volume_per_day=5)
    alone = {"person": house.cast.alice, "name": HERE, "use": one, "reason": "x"}
    if order == "many first":
        ask(house)
        with pytest.raises(about_keys.AlreadyAsked):
            change_key.ask(**alone, now=house.now)
    else:
        change_key.ask(**alone, now=house.now)
        with pytest.raises(about_keys.AlreadyAsked):
            ask(house)

    assert Request.objects.filter(kind__startswith="key.change").count() == 1


def test_a_request_that_was_withdrawn_is_asked_anew(house, readers):
    first = ask(house)
    approvals.withdraw(request_id=first.request.pk, person=house.cast.alice, now=house.now)

    second = ask(house)

    assert second.is_new
    assert second.request.pk != first.request.pk


@pytest.mark.parametrize("scope", [{"label": ["billing"]}, {"environment": ["dev"]}])
def test_a_stricter_policy_for_one_key_governs_many(house, readers, scope):
    policy(house.now, name="Lax", auto="approve")
    stages = [{"name": "Security", "groups": [defaults.SECURITY]}]
    policy(
        house.now,
        name="Strict",
        stages=stages,
        scope={"kind": ["key.change"], "provider": ["fake"], **scope},
    )

    asked = ask(house, [Wanted(HERE, {"labels": ("billing",)}), *wants([THERE])])

    assert asked.request.policy_version.policy.name == "Strict"
    assert Request.objects.get(pk=asked.request.pk).state == "pending"


def test_a_policy_that_approves_one_key_approves_many(house, readers):
    Rules.from_json({"name": "x", "scope": {"kind": ["key.change"]}, "auto": "approve"})
    for name in ("Changes of keys elsewhere", "Changes of keys in protected environments"):
        policy(house.now, name=name, auto="approve")

    ask(house)
    house.work()

    assert set(Key.objects.values_list("volume_per_day", flat=True)) == {77}


def test_keys_that_policies_cannot_judge_at_once_are_told_so(house, readers):
    scope = {"kind": ["key.change"], "label": ["a"], "lifetime": ["week"], "team": ["x"]}
    policy(house.now, scope=scope, auto="approve")
    many = [
        Wanted(name, {"labels": tuple(f"l{n}-{name}"[:40] for n in range(1500))})
        for name in (HERE, THERE)
    ]

    with pytest.raises(TooDifferent):
        ask(house, many)

    assert not Request.objects.filter(kind="key.change_many").exists()


def test_all_change_or_none(house, readers):
    asked = ask(house)
    house.say(house.cast.bob, house.revoke(readers[1]))
    house.work()
    house.say(house.cast.bob, asked.request)
    house.work()

    assert Request.objects.get(pk=asked.request.pk).state == "failed"
    assert Key.objects.get(name=HERE).volume_per_day == 1000
    assert not Event.objects.filter(event="key.changed").exists()


def test_a_second_try_finds_them_changed(house, readers):
    asked = ask(house)
    house.say(house.cast.bob, asked.request)
    house.work()
    now = Key.objects.get(name=HERE)

    assert change_key.Use.of(now) == dict(action_of(asked).uses)[now.pk]
    with pytest.raises(NothingToChange):
        ask(house)
    assert Event.objects.filter(event="key.changed").count() == 2


def test_agents_lose_a_key_that_is_no_longer_fetched(house, readers):
    builders.granted(house.cast, builders.agent(house.cast), readers[0])
    asked = ask(house, wants(delivery_mode="reveal"))

    house.say(house.cast.bob, asked.request)
    house.work()

    assert "Every agent loses the right to use it, at once." in asked.request.plan["breaks"]
    assert not readers[0].grants.filter(agent__isnull=False, ended_at=None).exists()


def test_r31_who_may_not_have_one_of_them_changed_asks_for_none(house, readers):
    cast = house.cast
    for person in (cast.bob, cast.carol, cast.dave, cast.mallory):
        with pytest.raises(NotVisible):
            ask(house, person=person)

    assert not Request.objects.filter(kind="key.change_many").exists()


def test_only_who_sees_all_keys_sees_the_request(house, readers):
    asked = ask(house)
    action, cast = action_of(asked), house.cast

    assert selectors.access_request(cast.alice, asked.request.pk).pk == asked.request.pk
    assert [action.visible_to(one.pk) for one in (cast.alice, cast.carol, cast.dave)] == [True] * 3
    assert not action.visible_to(cast.mallory.pk)


def test_a_key_that_does_not_live_is_not_changed(house, readers):
    Key.objects.filter(name=THERE).update(state="suspended")

    with pytest.raises(NotChangeable, match=f"{THERE} is suspended"):
        ask(house)


def test_what_was_not_seen_so_is_refused_before_anything_is_asked(house, readers):
    def refuse(key):
        raise RuntimeError(key.name)

    with pytest.raises(RuntimeError, match=THERE):
        ask(house, [*wants([HERE]), Wanted(THERE, {"volume_per_day": 7}, refuse)])

    assert not Request.objects.filter(kind__startswith="key.change").exists()


def test_what_is_stored_rebuilds_the_same_act(house, readers):
    action = action_of(ask(house))

    assert ChangeKeys.from_payload(action.to_payload()) == action
    with pytest.raises(ValueError, match="other fields"):
        ChangeKeys.from_payload(action.to_payload() | {"more": 1})


@pytest.mark.django_db(transaction=True)
def test_the_agent_that_asks_is_locked_before_the_key(house, readers):
    """As every other act of an agent does, or two of them could wait for each other."""
    bot = builders.agent(house.cast)

    with transaction.atomic():
        agents.lock(agent_id=bot.pk)
        racer = Racer(lambda: ask(house, wants([HERE]), agent_id=bot.pk))
        await_somebody_waiting()
        Key.objects.select_for_update(nowait=True).get(name=HERE)
    racer.finish()

    assert Request.objects.get(kind="key.change").asked_by_id == str(bot.pk)


@pytest.mark.django_db(transaction=True)
def test_two_who_ask_the_same_at_once_make_one_request(house, readers):
    asked = []
    racers = [
        Racer(lambda names=names: asked.append(ask(house, wants(names))))
        for names in ((HERE, THERE), (THERE, HERE), (HERE, THERE))
    ]
    for racer in racers:
        racer.finish()

    assert sorted(one.is_new for one in asked) == [False, False, True]
    assert len({one.request.pk for one in asked}) == 1
    assert Request.objects.filter(kind="key.change_many").count() == 1
