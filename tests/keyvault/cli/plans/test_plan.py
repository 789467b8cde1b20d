"""`keyvault plan`, as a command of its own before a server that is the real one."""

from __future__ import annotations

import json

import pytest

from keyvault.api import limits
from keyvault.inventory.models import Key
from tests.keyvault.agents import builders
from tests.keyvault.cli.plans.conftest import HERE, THERE, events

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_plan_shows_what_differs_and_changes_nothing(desk):
    before = events()

    told = desk.run("plan", code=9)

    assert told.splitlines() == [
        HERE,
        "  ~ title        Ledger reader -> The ledger",
        "  ~ calls a day  1000 -> 5  (by policy)",
        "  + labels       ai  (by policy)",
        "  + labels       billing  (by policy)",
        "  + dependent    refund-bot: agent refund-bot, by its reads, wave 1",
        THERE,
        "  + labels  ai  (by policy)",
        "5 changes to 2 keys: 2 at once, 3 that policy decides about.",
        f"This is a plan; nothing was changed. Then: keyvault apply {desk.file}",
    ]
    assert events() == before
    assert Key.objects.get(name=HERE).title == "Ledger reader"


def test_programs_get_a_plan_as_json(desk):
    found = json.loads(desk.run("plan", "--json", code=9))

    assert found["changes"] == 5
    first, second = found["keys"]
    assert (first["key"], second["key"], second["waits"]) == (HERE, THERE, None)
    assert second["changes"] == [
        {"sign": "~", "field": "labels", "now": [], "then": ["ai"], "how": "by policy", "note": ""}
    ]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("[keys.ledger-raeder]\n", f"1: ledger-raeder: there is no key of this name for you. Did you mean {HERE}?"),
        (f"[keys.{HERE}]\ndependents = [{{name = 'x', agent = 'refund-bto'}}]\n", "there is no agent refund-bto for you. Did you mean refund-bot?"),
    ],
)  # fmt: skip
def test_a_name_that_is_not_there_is_said_with_the_nearest(desk, file, said):
    assert said in desk.run("plan", file=file, code=4)


def test_who_may_only_look_is_told_so_before_anything_is_asked(house, desk_of, readers):
    said = desk_of(house.cast.carol).run("plan", code=4)

    assert f"{HERE}: you may not have it changed." in said
    assert f"{HERE}: you may not have it rotated, so its dependents are not yours to say." in said


def test_an_agent_plans_nothing_for_others(house, desk_of, readers):
    bot = house.cast.alice.owned_agents.get(name="refund-bot")
    builders.granted(house.cast, bot, readers[0])

    said = desk_of(bot).run("plan", file=f"[keys.{HERE}]\ndependents = []\n", code=4)

    assert "you may not have it rotated" in said


def test_a_revoked_key_is_to_be_taken_out(desk, house, readers):
    house.say(house.cast.bob, house.revoke(readers[1]))
    house.work()

    assert f"{THERE}: it was revoked. Take it out of the file." in desk.run("plan", code=4)


def test_who_was_only_seen_is_registered_and_then_there_is_nothing_to_do(desk, house, readers):
    from django.db import transaction

    from keyvault.dependents import services as dependents

    bot = house.cast.alice.owned_agents.get(name="refund-bot")
    with transaction.atomic():
        dependents.register(
            key=readers[0],
            name="refund-bot",
            agent_id=bot.pk,
            health="reads",
            is_discovered=True,
            now=house.now,
            actor=builders.TESTS,
        )
    file = f"[keys.{HERE}]\ndependents = [{{name = 'refund-bot', agent = 'refund-bot'}}]\n"

    told = desk.run("plan", file=file, code=9)
    desk.run("apply", "--yes", file=file)

    assert "+ dependent  refund-bot: agent refund-bot" in told
    assert "Nothing to do" in desk.run("plan", file=file)


def test_a_plan_waits_where_it_calls_too_often(desk, monkeypatch):
    """A file of many keys has more calls than a caller may make at once."""
    monkeypatch.setattr(limits, "PRINCIPAL", limits.Rate(per_s=1, burst=1))

    desk.run("plan", code=9)
