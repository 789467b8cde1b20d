"""What stays with an agent, and what goes over to its new owner with it."""

from __future__ import annotations

import pytest
from django.db import transaction

from approvals import services
from approvals.models import Request
from keyvault.actions import askers
from keyvault.agents import selectors as agents
from keyvault.agents import tokens
from keyvault.agents.models import Agent
from keyvault.api import asking
from tests.keyvault.actions.test_change_owner import (
    ask,
    orphan,
    state,
)
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db


def hand_over(house, **who) -> None:
    request = ask(house, **who)
    house.say(house.cast.bob, request)
    house.work()
    assert state(request) == "done"


def test_tokens_secrets_and_grants_stay(house):
    cast, agent = house.cast, builders.agent(house.cast)
    builders.granted(cast, agent, house.pull())
    text = builders.token(cast, agent).text.reveal().decode()

    hand_over(house)

    assert tokens.authenticate(text, now=house.now).agent_id == agent.pk
    assert [row.key.name for row in agents.grants_of(agent, now=house.now)] == ["ledger-reader"]


def test_open_requests_of_the_agent_stay_its_next_ones_are_its_new_owner_s(house):
    cast, agent = house.cast, builders.agent(house.cast)
    house.pull()
    before = house.let_use(agent_id=agent.pk)
    hand_over(house, owner=cast.carol, backup=cast.erin)
    house.pull(name="other-key")
    found = Agent.objects.select_related("owner").get()
    after = house.let_use(found.owner, key="other-key", agent_id=agent.pk)

    row = Request.objects.get(pk=before.pk)
    assert (row.state, row.requester, row.asked_by.id) == ("pending", cast.alice, str(agent.pk))
    assert after.requester == cast.carol
    assert asking.on_behalf(_caller(found)) == cast.carol
    assert services.withdraw_asked(
        request_id=before.pk, asker=found.as_actor, now=house.now
    ).state == ("withdrawn")


def _caller(agent):
    class Caller:
        """What a call of the agent is known by."""

    Caller.agent = agent
    return Caller


def test_an_orphan_asks_for_nothing_and_asks_again_once_it_has_an_owner(house):
    agent, cast = orphan(house), house.cast
    with transaction.atomic(), pytest.raises(askers.NobodyToAskFor):
        askers.admit(agent.pk)

    request = ask(house, cast.frank)
    house.say(cast.bob, request)
    house.work()

    with transaction.atomic():
        assert askers.admit(agent.pk).id == str(agent.pk)


def test_r15_who_answered_for_an_agent_when_it_asked_does_not_decide_after_the_hand_over(house):
    cast = house.cast
    agent = builders.agent(cast, backup_owner=cast.carol)
    house.pull()
    asked = house.let_use(agent_id=agent.pk)
    hand_over(house, owner=cast.alice, backup=cast.erin)

    with pytest.raises(services.NotEligible, match="you answered for it then"):
        house.say(cast.carol, asked)


def test_r15_who_comes_to_answer_for_an_agent_no_longer_decides_what_it_asked(house):
    cast = house.cast
    agent = builders.agent(cast, backup_owner=None)
    house.pull()
    asked = house.let_use(agent_id=agent.pk)
    hand_over(house, owner=cast.alice, backup=cast.carol)

    with pytest.raises(services.NotEligible, match="you answered for it then or do now"):
        house.say(cast.carol, asked)


def test_an_approved_request_that_names_the_owner_of_before_is_stopped(house):
    cast = house.cast
    builders.agent(cast)
    house.pull()
    granted = house.let_use()
    hand_over(house)

    house.say(cast.bob, granted)
    house.work()

    assert state(granted) == "invalidated"
