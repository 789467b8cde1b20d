"""Letting an agent use a key: who may ask, who decides, what is given and when it ends."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction

from approvals import selectors, services
from approvals.models import Request
from approvals.ports import NotVisible
from keyvault.actions import about_keys, askers, grant_access, new_grant
from keyvault.agents import services as agents
from keyvault.agents import stops
from keyvault.agents.selectors import grants_of
from keyvault.audit.models import Event
from keyvault.inventory.models import Grant, Key
from tests import cast as people
from tests import races
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db


def state(request) -> str:
    return Request.objects.get(pk=request.pk).state


def uses(agent, now) -> list[str]:
    return [grant.key.name for grant in grants_of(agent, now=now)]


def test_an_approved_agent_may_use_the_key_until_its_day(house):
    agent, key = builders.agent(house.cast), house.pull()
    request = house.let_use()
    assert uses(agent, house.now) == []

    house.say(house.cast.bob, request)
    house.work()

    assert uses(agent, house.now) == [key.name]
    assert uses(agent, house.now + timedelta(days=30)) == []
    grant = Grant.objects.get(agent=agent)
    assert (grant.request_id, grant.permission) == (request.pk, "use")
    row = Request.objects.get(pk=request.pk)
    assert row.outcome["facts"]["Gateways"] == "no gateway is running"
    assert Event.objects.get(event="grant.given", fields__holder_kind="agent").fields["ends_at"]


def test_the_plan_says_who_reads_what_until_when_and_what_steers_it(house):
    builders.agent(house.cast, reads_outside_text=True)
    house.pull()
    plan = grant_access.plan(
        person=house.cast.alice, key="ledger-reader", agent="refund-bot", days=30, now=house.now
    ).describe()
    rows = {change.field: change for change in plan.changes}

    assert rows["Outside text"].warning == "Reads outside text"
    assert rows["Agents reached now"].then == ("refund-bot (Refund bot) of Alice, Payments",)
    assert str((house.now + timedelta(days=30)).day) in rows["Until"].then
    assert plan.target.label == "ledger-reader"


def test_risk_adds_up_from_what_the_approver_reads(house):
    cast = house.cast
    builders.agent(cast, reads_outside_text=True, backup_owner=None)
    house.pull(allowed_hosts=())
    points = {
        point.title: point.points
        for point in grant_access.plan(
            person=cast.alice, key="ledger-reader", agent="refund-bot", days=91, now=house.now
        ).risk()
    }

    assert points == {
        "Another reader": 10,
        "Reads outside text": 25,
        "No living backup owner": 10,
        "Long access": 10,
        "Any host": 15,
    }


def test_a_key_that_its_owner_reads_is_not_for_agents(house):
    builders.agent(house.cast)
    house.create()

    with pytest.raises(new_grant.NotGrantable, match="Ask to change its delivery first"):
        house.let_use()


def test_a_key_that_does_not_live_is_not_granted(house):
    builders.agent(house.cast)
    house.ask(delivery_mode="pull")

    with pytest.raises(new_grant.NotGrantable, match="is requested"):
        house.let_use()


@pytest.mark.parametrize("days", [0, -1, 366])
def test_nobody_asks_for_longer_than_a_right_lasts(house, days):
    builders.agent(house.cast)
    house.pull()

    with pytest.raises(new_grant.TooLong) as refusal:
        house.let_use(days=days)

    assert refusal.value.nearest == 365


def test_r31_the_asker_sees_both_and_answers_for_one(house):
    cast = house.cast
    builders.agent(cast)
    builders.agent(cast, "scout", owner=cast.bob, backup_owner=None, team=cast.security.group)
    house.pull()

    for person, what in (
        (cast.bob, {}),
        (cast.mallory, {}),
        (cast.dave, {}),
        (cast.erin, {}),
        (cast.alice, {"agent": "scout"}),
        (cast.alice, {"agent": "no-such-agent"}),
        (cast.alice, {"key": "no-such-key"}),
        (cast.bob, {"agent": "scout"}),
    ):
        with pytest.raises(NotVisible):
            house.let_use(person, **what)
    assert house.let_use(cast.carol).kind == "grant.give"
    assert house.let_use(cast.frank, agent="scout").kind == "grant.give"


def test_the_same_access_is_not_asked_for_twice(house):
    builders.agent(house.cast)
    house.pull()
    first = house.let_use()

    with pytest.raises(about_keys.AlreadyAsked) as asked:
        house.let_use(house.cast.carol)

    assert asked.value.request_id == first.pk


def test_the_asker_never_decides_and_whoever_answers_for_the_agent_steps_back(house):
    cast = house.cast
    builders.agent(cast, owner=cast.carol, backup_owner=None)
    house.pull()
    request = house.let_use()

    assert not selectors.standing(
        selectors.access_request(cast.alice, request.pk), cast.alice, now=house.now
    ).may
    carol = selectors.standing(
        selectors.access_request(cast.carol, request.pk), cast.carol, now=house.now
    )
    assert (carol.may, "about you" in carol.why_not) == (False, True)
    with pytest.raises(services.NotEligible):
        house.say(cast.carol, request)


def test_in_a_protected_environment_two_teams_decide(house):
    cast = house.cast
    agent = builders.agent(cast)
    request = house.ask(environment="prod", delivery_mode="pull")
    house.say(cast.bob, request)
    house.say(cast.carol, request)
    house.work()
    wanted = house.let_use()

    house.say(cast.bob, wanted)
    house.work()
    assert uses(agent, house.now) == []
    house.say(cast.carol, wanted)
    house.work()

    assert (state(wanted), uses(agent, house.now)) == ("done", ["ledger-reader"])


def test_a_longer_access_replaces_the_open_one(house):
    agent = builders.agent(house.cast)
    house.pull()
    for days in (30, 60):
        request = house.let_use(days=days)
        house.say(house.cast.bob, request)
        house.work()

    open_one = Grant.objects.get(agent=agent, ended_at=None)
    assert open_one.ends_at == house.now + timedelta(days=60)
    assert Grant.objects.filter(agent=agent).count() == 2


def test_a_team_s_agents_get_what_the_team_is_granted(house):
    from keyvault.actions import join_agent

    agent = builders.agent(house.cast)
    house.pull()
    request = house.let_use(agent="", team="payments")
    house.say(house.cast.bob, request)
    house.work()
    assert uses(agent, house.now) == []

    joining = join_agent.ask(
        person=house.cast.alice, agent=agent.name, team="payments", reason="Shared.", now=house.now
    )
    plan = Request.objects.get(pk=joining.pk).plan
    house.say(house.cast.bob, joining)
    house.work()

    assert uses(agent, house.now) == ["ledger-reader"]
    assert ["ledger-reader (dev)"] in [change["then"] for change in plan["changes"]]


def test_an_agent_that_was_retired_meanwhile_gets_nothing(house):
    agent = builders.agent(house.cast)
    house.pull()
    request = house.let_use()
    house.say(house.cast.bob, request)
    with transaction.atomic():
        agents.set_state(
            agent_id=agent.pk, state="retired", cause="x", actor=builders.TESTS, now=house.now
        )

    house.work()

    assert state(request) == "failed"
    assert not Grant.objects.filter(agent=agent).exists()


def test_a_key_whose_delivery_changed_meanwhile_is_not_given(house):
    builders.agent(house.cast)
    house.pull()
    request = house.let_use()
    house.say(house.cast.bob, request)
    Key.objects.update(delivery_mode="reveal")

    house.work()

    assert state(request) == "failed"
    assert not Grant.objects.filter(agent__isnull=False).exists()


def test_an_agent_that_begins_to_read_outside_text_is_judged_again(house):
    agent = builders.agent(house.cast)
    house.pull()
    request = house.let_use()
    house.say(house.cast.bob, request)
    with transaction.atomic():
        agents.describe(
            agent_id=agent.pk,
            title=agent.title,
            purpose=agent.purpose,
            reads_outside_text=True,
            actor=builders.TESTS,
            now=house.now,
        )

    house.work()

    assert state(request) == "invalidated"


def test_solo_mode_grants_outside_protected_environments(house):
    from keyvault.accounts.models import Installation

    cast = house.cast
    Installation.objects.update(left_solo_at=None)
    people.leave(cast.grace, "administrators", now=house.now)
    people.join(cast.frank, "payments", now=house.now - timedelta(days=1))
    builders.agent(cast, owner=cast.frank, backup_owner=None)
    request = house.ask(person=cast.frank, delivery_mode="pull")
    house.say(cast.frank, request)
    house.work()
    wanted = house.let_use(cast.frank)

    house.say(cast.frank, wanted)
    house.work()

    assert state(wanted) == "done"


def test_a_second_try_of_the_same_request_gives_one_grant(house):
    agent = builders.agent(house.cast)
    house.pull()
    request = house.let_use()
    house.say(house.cast.bob, request)
    house.work()
    action = grant_access.GrantAccess.from_payload(Request.objects.get(pk=request.pk).payload)

    class Again:
        now = house.now

        def fence(self):
            return None

        def reached(self, _point):
            return None

    action.execute(request_id=request.pk, run=Again())

    assert Grant.objects.filter(agent=agent).count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_approvers_at_the_same_moment_give_one_grant(house):
    cast = house.cast
    agent = builders.agent(cast, owner=cast.frank, backup_owner=None)
    house.pull()
    request = house.let_use(cast.frank)
    barrier = threading.Barrier(2)

    def decide(person):
        try:
            barrier.wait()
            house.say(person, request)
        except (services.Closed, services.NotEligible):
            return
        finally:
            connection.close()

    threads = [threading.Thread(target=decide, args=[who]) for who in (cast.bob, cast.carol)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    house.work()

    assert state(request) == "done"
    assert Grant.objects.filter(agent=agent).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_grant_and_the_end_of_its_agent_take_turns(house, monkeypatch):
    """The run waits for the agent before it locks the key and the grant that it replaces."""
    cast, agent = house.cast, builders.agent(house.cast)
    builders.granted(cast, agent, house.pull(), days=10)
    request = house.let_use()
    house.say(cast.bob, request)
    racers, end_all = [], stops._end_all

    def slow(*args):
        racers.append(races.Racer(house.work))
        races.await_somebody_waiting()
        end_all(*args)

    monkeypatch.setattr(stops, "_end_all", slow)
    proof = people.proof_for(cast.alice, digest=stops.digest(stops.RETIRE, agent), now=house.now)
    stops.retire(person=cast.alice, name=agent.name, cause="Over.", proof_id=proof, now=house.now)
    racers[0].finish()

    assert (state(request), Request.objects.get(pk=request.pk).end_code) == (
        "failed",
        "not_grantable",
    )
    assert not Grant.objects.filter(agent=agent, ended_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_a_grant_and_a_question_of_its_agent_take_turns(house, monkeypatch):
    cast, agent = house.cast, builders.agent(house.cast)
    house.pull()
    request = house.let_use()
    house.say(cast.bob, request)
    racers, admit = [], askers.admit

    def slow(agent_id):
        found = admit(agent_id)
        racers.append(races.Racer(house.work))
        races.await_somebody_waiting()
        return found

    monkeypatch.setattr(askers, "admit", slow)
    asked = house.let_use(agent="", team="payments", agent_id=agent.pk)
    racers[0].finish()

    assert (state(request), state(asked)) == ("done", "pending")
    assert uses(agent, house.now) == ["ledger-reader"]
