"""Who may see, stop, manage and equip an agent."""

from __future__ import annotations

from uuid import uuid4

import pytest

from approvals.ports import NotVisible
from keyvault.agents import access
from keyvault.agents.access import AgentPermission
from keyvault.agents.models import Agent
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db
VIEW, SUSPEND, MANAGE, EQUIP, HAND_OVER = AgentPermission

RIGHTS = {
    "alice": {VIEW, SUSPEND, MANAGE, EQUIP, HAND_OVER},
    "carol": {VIEW, SUSPEND, MANAGE, EQUIP, HAND_OVER},
    "dave": {VIEW},
    "erin": {VIEW, SUSPEND},
    "frank": {VIEW, SUSPEND, MANAGE},
    "bob": set(),
    "mallory": set(),
}


@pytest.mark.parametrize("name", RIGHTS)
@pytest.mark.parametrize("permission", list(AgentPermission))
def test_r31_the_gate_opens_for_those_who_may_and_for_nobody_else(cast, name, permission):
    agent, person = builders.agent(cast), getattr(cast, name)

    for reference in (agent.pk, agent.name):
        if permission in RIGHTS[name]:
            assert access.access_agent(person, reference, permission) == agent
        else:
            with pytest.raises(NotVisible):
                access.access_agent(person, reference, permission)


def test_r31_hidden_and_missing_are_refused_alike(cast):
    agent = builders.agent(cast)

    for reference in (agent.pk, agent.name, uuid4(), "no-such-agent"):
        with pytest.raises(NotVisible, match="agent "):
            access.access_agent(cast.mallory, reference, VIEW)


def test_a_member_of_the_team_sees_the_agent_and_cannot_touch_it(cast):
    agent = builders.agent(cast, backup_owner=None, owner=cast.bob)

    assert access.permissions(cast.alice, agent) == {VIEW}


def test_r34_no_role_gives_an_agent_a_way_to_prove_itself(cast):
    agent = builders.agent(cast)

    for person in (cast.frank, cast.erin, cast.dave):
        assert EQUIP not in access.permissions(person, agent)


def test_r34_once_nobody_answers_for_an_agent_its_team_and_administrators_ask_for_an_owner(cast):
    agent = builders.agent(cast, owner=cast.bob, backup_owner=cast.mallory)
    for gone in (cast.bob, cast.mallory):
        assert not access.is_orphan(agent)
        for person in (cast.alice, cast.frank):
            assert HAND_OVER not in access.permissions(person, agent)
        gone.is_active = False

    assert access.is_orphan(agent)
    assert access.permissions(cast.alice, agent) == {VIEW, HAND_OVER}
    assert access.permissions(cast.frank, agent) == {VIEW, SUSPEND, MANAGE, HAND_OVER}
    for person in (cast.dave, cast.erin, cast.grace, cast.mallory):
        is_administrator = person == cast.grace
        assert (HAND_OVER in access.permissions(person, agent)) == is_administrator


def test_a_deactivated_owner_may_do_nothing(cast):
    agent = builders.agent(cast)
    cast.alice.is_active = False

    assert access.permissions(cast.alice, agent) == frozenset()
    assert not access.visible_agents(cast.alice).exists()


def test_r33_lists_start_from_what_a_person_may_see(cast):
    agent = builders.agent(cast)

    for name, rights in RIGHTS.items():
        seen = list(access.visible_agents(getattr(cast, name)))
        assert seen == ([agent] if rights else []), name
    assert Agent.objects.count() == 1
