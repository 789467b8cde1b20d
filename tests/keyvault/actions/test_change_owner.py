"""A new owner for an agent: the mend for one that nobody answers for, and who asks for it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from approvals.models import Request
from approvals.ports import NotVisible
from keyvault.accounts import services as accounts
from keyvault.accounts.models import User
from keyvault.actions import about_keys, change_owner, new_grant
from keyvault.agents import access, ownership
from keyvault.agents import clients as stored
from keyvault.agents import selectors as agents
from keyvault.agents import services as registry
from keyvault.agents.models import Agent
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from tests import cast as people
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db


def ask(house, person=None, *, owner=None, backup=None, agent="refund-bot"):
    """Ask that carol owns refund-bot and nobody stands in, with changes."""
    return change_owner.ask(
        person=person or house.cast.alice,
        agent=agent,
        owner=(owner or house.cast.carol).pk,
        backup_owner=backup.pk if backup else None,
        reason="Alice moves on.",
        now=house.now,
    )


def state(request) -> str:
    return Request.objects.get(pk=request.pk).state


def answering() -> tuple[str, str | None]:
    agent = Agent.objects.get()
    return agent.owner.username, agent.backup_owner and agent.backup_owner.username


def deactivate(house, *gone) -> None:
    with transaction.atomic():
        for person in gone:
            accounts.deactivate(user=person, now=house.now, actor=builders.TESTS)
            person.refresh_from_db()


def retire(house, agent) -> None:
    with transaction.atomic():
        registry.set_state(
            agent_id=agent.pk, state="retired", cause="x", actor=builders.TESTS, now=house.now
        )


def orphan(house, **changes) -> Agent:
    """Return an agent of payments whose owner has left, and who had no backup owner."""
    agent = builders.agent(house.cast, owner=house.cast.alice, backup_owner=None, **changes)
    deactivate(house, house.cast.alice)
    return agent


def production(house):
    """Return a key of production that agents may fetch."""
    request = house.ask(environment="prod", delivery_mode="pull")
    for person in (house.cast.bob, house.cast.carol):
        house.say(person, request)
    house.work()
    return Key.objects.get(request_id=request.pk)


@pytest.mark.parametrize("asker", ["frank", "carol"])
def test_an_agent_without_a_living_owner_gets_one(house, asker):
    cast, agent = house.cast, orphan(house)
    assert "orphan" in agents.problems_of(Agent.objects.get(), now=house.now)
    request = ask(house, getattr(cast, asker), owner=cast.carol, backup=cast.erin)

    house.say(cast.bob, request)
    assert answering() == ("alice", None), "nothing is done before a worker runs it"
    house.work()

    assert (state(request), answering()) == ("done", ("carol", "erin"))
    assert "orphan" not in agents.problems_of(Agent.objects.get(), now=house.now)
    told = Event.objects.get(event="agent.owner_changed")
    assert told.fields == {
        "owner": str(cast.carol.pk),
        "backup_owner": str(cast.erin.pk),
        "owner_before": str(cast.alice.pk),
        "backup_owner_before": None,
    }
    assert (told.request_id, told.subject_id) == (request.pk, str(agent.pk))


def test_a_living_owner_hands_over_and_rights_follow(house):
    cast, agent = house.cast, builders.agent(house.cast)
    request = ask(house, owner=cast.carol, backup=cast.erin)

    house.say(cast.bob, request)
    house.work()

    agent = Agent.objects.get(pk=agent.pk)
    assert access.permissions(cast.alice, agent) == {access.AgentPermission.VIEW}
    assert "equip" in access.permissions(cast.carol, agent)
    assert "equip" in access.permissions(cast.erin, agent)


def test_the_backup_owner_alone_can_be_changed(house):
    cast = house.cast
    builders.agent(cast)
    request = ask(house, owner=cast.alice, backup=cast.erin)
    plan = Request.objects.get(pk=request.pk).plan

    house.say(cast.bob, request)
    house.work()

    assert answering() == ("alice", "erin")
    assert plan["title"] == "Erin stands in for the owner of refund-bot"
    assert plan["breaks"][0] == "Carol (carol) no longer answers for it."
    assert not any("name the owner" in line for line in plan["breaks"])


def test_the_plan_says_who_answers_now_and_then_and_what_is_read(house):
    cast, agent = house.cast, builders.agent(house.cast, reads_outside_text=True)
    builders.granted(cast, agent, house.pull())
    plan = Request.objects.get(pk=ask(house).pk).plan
    rows = {row["field"]: row for row in plan["changes"]}

    assert (rows["Owner"]["now"], rows["Owner"]["then"]) == ("Alice (alice)", "Carol (carol)")
    assert (rows["Backup owner"]["then"], rows["Backup owner"]["warning"]) == ("nobody", "Nobody")
    assert rows["Keys that are read through it"]["then"] == ["ledger-reader (dev)"]
    assert rows["Outside text"]["warning"] == "Reads outside text"


def test_the_risk_names_what_stays_and_what_was_contained(house):
    cast, agent = house.cast, orphan(house)
    with transaction.atomic():
        stored.add_secret(agent_id=agent.pk, actor=builders.TESTS, now=house.now)
        registry.set_state(
            agent_id=agent.pk,
            state="suspended",
            cause="Odd calls.",
            actor=builders.TESTS,
            now=house.now,
            contains=True,
        )
    request = Request.objects.get(pk=ask(house, cast.frank).pk)

    assert {point["title"]: point["points"] for point in request.risk} == {
        "Others read through it": 15,
        "No living backup owner": 10,
        "Ways to prove itself stay": 10,
        "No living owner": 10,
        "It was contained": 15,
    }
    house.say(cast.bob, request)
    house.work()
    agent = Agent.objects.get()
    assert (agent.state, agent.contained, agent.owner) == ("suspended", True, cast.carol)


def test_r31_while_somebody_answers_for_it_nobody_else_asks(house):
    cast = house.cast
    builders.agent(cast, owner=cast.alice, backup_owner=cast.erin)

    for person in (cast.bob, cast.carol, cast.dave, cast.frank, cast.grace, cast.mallory):
        with pytest.raises(NotVisible):
            ask(house, person)
    with pytest.raises(NotVisible):
        ask(house, agent="no-such-bot")
    assert ask(house, cast.erin).kind == "agent.change_owner"


def test_r31_for_an_orphan_neither_duty_nor_watching_asks(house):
    cast = house.cast
    orphan(house)

    for person in (cast.alice, cast.bob, cast.dave, cast.erin, cast.mallory):
        with pytest.raises(NotVisible):
            ask(house, person)


def test_a_deactivated_backup_owner_counts_for_nobody(house):
    cast = house.cast
    builders.agent(cast, owner=cast.alice, backup_owner=cast.erin)
    deactivate(house, cast.alice)

    with pytest.raises(NotVisible):
        ask(house, cast.frank)
    deactivate(house, cast.erin)
    assert ask(house, cast.frank).requester == cast.frank


@pytest.mark.parametrize(
    ("who", "field"),
    [
        ({"owner": "bob"}, "owner"),  # not of the team
        ({"owner": "frank"}, "owner"),
        ({"owner": "gone"}, "owner"),
        ({"owner": "fresh"}, "owner"),
        ({"owner": "carol", "backup": "carol"}, "backup_owner"),
        ({"owner": "carol", "backup": "gone"}, "backup_owner"),
        ({"owner": "carol", "backup": "fresh"}, "backup_owner"),
    ],
)
def test_r39_only_active_enrolled_people_answer_and_the_owner_is_of_the_team(house, who, field):
    cast, then = house.cast, house.now - timedelta(days=1)
    builders.agent(cast)
    with transaction.atomic():
        fresh = people.person("fresh", now=then, enrolled=False)
        gone = people.person("gone", now=then)
    for person in (fresh, gone):
        people.join(person, "payments", now=then)
    deactivate(house, gone)
    named = {name: User.objects.get(username=username) for name, username in who.items()}

    with pytest.raises(ownership.BadOwners) as refusal:
        ask(house, **named)

    assert set(refusal.value.errors) == {field}
    assert not Request.objects.filter(kind="agent.change_owner").exists()


def test_the_table_itself_keeps_owner_and_backup_apart(house):
    agent = builders.agent(house.cast)

    with pytest.raises(IntegrityError, match="agent_backup_is_another"), transaction.atomic():
        Agent.objects.filter(pk=agent.pk).update(backup_owner=house.cast.alice)


def test_what_holds_already_is_not_asked_for(house):
    builders.agent(house.cast)

    with pytest.raises(change_owner.NothingToChange):
        ask(house, owner=house.cast.alice, backup=house.cast.carol)


def test_a_retired_agent_gets_no_owner(house):
    retire(house, builders.agent(house.cast))

    with pytest.raises(new_grant.NotGrantable, match="was retired"):
        ask(house)


def test_one_change_waits_at_a_time_whoever_is_proposed(house):
    cast = house.cast
    builders.agent(cast)
    first = ask(house)

    with pytest.raises(about_keys.AlreadyAsked) as asked:
        ask(house, cast.carol, owner=cast.alice, backup=cast.erin)

    assert asked.value.request_id == first.pk


@pytest.mark.parametrize(
    "change",
    [{"owner": "x"}, {"owner_id": "x"}, {"owner_id": None, "agent_id": None}, {"extra": "x"}],
)
def test_a_payload_of_another_shape_is_refused(house, change):
    builders.agent(house.cast)
    payload = Request.objects.get(pk=ask(house).pk).payload | change

    with pytest.raises((ValueError, TypeError, AttributeError)):
        change_owner.ChangeOwner.from_payload(payload)
