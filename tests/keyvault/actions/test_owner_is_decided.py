"""Who decides about a new owner of an agent, and what stops it between decision and run."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from approvals import ports, selectors, services
from approvals.models import Request
from keyvault.accounts.devices import TOTPDevice
from keyvault.accounts.models import Installation, User
from keyvault.actions import about_keys, change_owner
from keyvault.agents import ownership
from keyvault.agents.models import Agent
from keyvault.audit.models import Event
from tests import cast as people
from tests import races
from tests.keyvault.actions.test_change_owner import (
    answering,
    ask,
    deactivate,
    orphan,
    production,
    retire,
    state,
)
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db
USUAL, STRICT = "Owners of agents elsewhere", "Owners of agents in protected environments"


def policy(request) -> str:
    return Request.objects.get(pk=request.pk).policy_version.policy.name


def may(house, person, request) -> selectors.Stand:
    row = selectors.access_request(person, request.pk)
    return selectors.standing(row, person, now=house.now)


@pytest.mark.parametrize("role", ["owner", "backup"])
def test_r34_the_people_proposed_never_decide(house, role):
    cast = house.cast
    orphan(house)
    people.join(cast.bob, "payments", now=house.now - timedelta(days=1))
    proposed = {"owner": cast.bob} if role == "owner" else {"owner": cast.carol, "backup": cast.bob}
    request = ask(house, cast.frank, **proposed)
    word = "new owner" if role == "owner" else "new backup owner"

    assert f"The policy keeps the {word}" in may(house, cast.bob, request).why_not
    with pytest.raises(services.NotEligible):
        house.say(cast.bob, request)
    assert may(house, cast.grace, request).may


def test_r34_not_even_by_another_account_of_theirs(house):
    cast = house.cast
    orphan(house)
    User.objects.filter(pk=cast.bob.pk).update(email_key=cast.carol.email_key)
    request = ask(house, cast.frank)

    with pytest.raises(services.NotEligible, match="new owner"):
        house.say(cast.bob, request)


def test_r34_nor_where_nobody_else_is_left(house):
    cast = house.cast
    orphan(house)
    people.leave(cast.bob, "security", now=house.now)

    request = ask(house, cast.frank, backup=cast.grace)

    for person in (cast.carol, cast.grace):
        with pytest.raises(services.NotEligible, match="The policy keeps"):
            house.say(person, request)
    assert "only 0 can decide" in selectors.who_decides(request, now=house.now).shortfall


def test_r34_nobody_becomes_the_owner_by_their_own_word_in_solo_mode(house):
    cast = house.cast
    Installation.objects.update(left_solo_at=None)
    people.leave(cast.grace, "administrators", now=house.now)
    people.join(cast.frank, "payments", now=house.now - timedelta(days=1))
    orphan(house)
    request = ask(house, cast.frank, owner=cast.frank)

    with pytest.raises(services.NotEligible):
        house.say(cast.frank, request)


def test_whoever_answers_for_it_now_steps_back_while_others_can_decide(house):
    cast = house.cast
    builders.agent(cast, backup_owner=cast.bob)
    request = ask(house, owner=cast.alice)

    assert "about you" in may(house, cast.bob, request).why_not
    house.say(cast.grace, request)
    house.work()
    assert answering() == ("alice", None)


def test_where_protected_keys_are_read_two_people_of_different_teams_decide(house):
    cast, agent = house.cast, builders.agent(house.cast, backup_owner=None)
    builders.granted(cast, agent, production(house))
    request = ask(house)

    assert policy(request) == STRICT
    house.say(cast.bob, request)
    house.work()
    assert (state(request), answering()[0]) == ("pending", "alice")
    house.say(cast.grace, request)
    house.work()
    assert (state(request), answering()[0]) == ("done", "carol")


def test_the_team_of_the_keys_decides_where_it_is_another_one(house):
    cast = house.cast
    agent = builders.agent(cast, owner=cast.erin, backup_owner=None, team=cast.security.group)
    builders.granted(cast, agent, production(house))
    request = ask(house, cast.erin, owner=cast.bob)

    assert "new owner" in may(house, cast.bob, request).why_not
    assert may(house, cast.alice, request).may
    assert may(house, cast.carol, request).may


def test_keys_elsewhere_take_one_person(house):
    agent = builders.agent(house.cast)
    builders.granted(house.cast, agent, house.pull())

    assert policy(ask(house)) == USUAL


def test_r16_the_vote_of_somebody_who_is_deactivated_meanwhile_is_lost(house):
    cast = house.cast
    builders.agent(cast)
    request = ask(house)
    house.say(cast.bob, request)
    deactivate(house, cast.bob)

    house.work()

    assert (state(request), answering()[0]) == ("invalidated", "alice")


@pytest.mark.parametrize("lost", ["account", "team", "factor", "backup"])
def test_whoever_is_no_longer_fit_when_it_runs_gets_nothing(house, lost):
    cast = house.cast
    builders.agent(cast)
    request = ask(house, owner=cast.carol, backup=cast.erin)
    house.say(cast.bob, request)
    if lost == "team":
        people.leave(cast.carol, "payments", now=house.now)
    elif lost == "factor":
        TOTPDevice.objects.filter(user=cast.carol).delete()
    else:
        deactivate(house, cast.carol if lost == "account" else cast.erin)

    house.work()

    row = Request.objects.get(pk=request.pk)
    assert (row.state, row.end_code) == ("failed", "not_fit")
    assert answering() == ("alice", "carol")
    assert not Event.objects.filter(event="agent.owner_changed").exists()


def test_an_agent_that_was_retired_meanwhile_keeps_its_owner(house):
    agent = builders.agent(house.cast)
    request = ask(house)
    house.say(house.cast.bob, request)
    retire(house, agent)

    house.work()

    row = Request.objects.get(pk=request.pk)
    assert (row.state, row.end_code) == ("failed", "retired")
    assert answering() == ("alice", "carol")


def test_an_owner_who_leaves_before_it_runs_does_not_stop_the_hand_over(house):
    builders.agent(house.cast)
    request = ask(house)
    house.say(house.cast.bob, request)
    deactivate(house, house.cast.alice)

    house.work()

    assert (state(request), answering()[0]) == ("done", "carol")


def test_another_owner_or_another_key_since_the_approval_stops_it(house):
    cast, agent, key = house.cast, builders.agent(house.cast), production(house)
    first = ask(house)
    house.say(cast.bob, first)
    Agent.objects.filter(pk=agent.pk).update(backup_owner=cast.erin)
    house.work()
    second = ask(house)
    house.say(cast.bob, second)
    builders.granted(cast, agent, key)
    house.work()

    assert (state(first), state(second)) == ("invalidated", "invalidated")
    assert answering() == ("alice", "erin")


class Again:
    """A second try of a run."""

    def __init__(self, now) -> None:
        self.now = now

    def fence(self) -> None:
        """Hold the job still."""

    def reached(self, _point) -> None:
        """Pass every point."""


def test_a_second_try_of_the_same_request_changes_nothing(house):
    builders.agent(house.cast)
    request = ask(house)
    house.say(house.cast.bob, request)
    house.work()
    action = change_owner.ChangeOwner.from_payload(Request.objects.get(pk=request.pk).payload)

    outcome = action.execute(request_id=request.pk, run=Again(house.now))

    assert outcome.sentence == "Carol answers for refund-bot, with nobody standing in."
    assert Event.objects.filter(event="agent.owner_changed").count() == 1


def test_what_moves_between_the_start_and_the_locks_is_seen_under_them(house):
    agent = builders.agent(house.cast)
    request = ask(house)
    action = change_owner.ChangeOwner.from_payload(Request.objects.get(pk=request.pk).payload)
    builders.granted(house.cast, agent, house.pull())

    with pytest.raises(ports.CannotExecute, match="no longer what was approved"):
        action.execute(request_id=request.pk, run=Again(house.now))

    assert answering()[0] == "alice"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["deactivated", "retired"])
def test_the_run_waits_for_what_is_under_way_and_sees_it(house, what):
    agent = builders.agent(house.cast)
    request = ask(house)
    house.say(house.cast.bob, request)

    with transaction.atomic():
        if what == "retired":
            retire(house, agent)
        else:
            deactivate(house, house.cast.carol)
        racer = races.Racer(house.work)
        races.await_somebody_waiting()
    racer.finish()

    codes = {"retired": "retired", "deactivated": "not_fit"}
    assert Request.objects.get(pk=request.pk).end_code == codes[what]
    assert answering() == ("alice", "carol")


@pytest.mark.django_db(transaction=True)
def test_two_who_ask_at_the_same_moment_make_one_request(house, monkeypatch):
    cast = house.cast
    builders.agent(cast)
    racers, require_fit = [], ownership.require_fit

    def slow(*args, **more):
        if not racers:
            racers.append(races.Racer(lambda: ask(house, cast.carol, backup=cast.erin)))
            races.await_somebody_waiting()
        require_fit(*args, **more)

    monkeypatch.setattr(ownership, "require_fit", slow)
    request = ask(house)
    with pytest.raises(about_keys.AlreadyAsked):
        racers[0].finish()

    assert Request.objects.get(kind="agent.change_owner").pk == request.pk
