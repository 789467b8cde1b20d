"""Rights are taken at once: by whom, with which code, and what is left."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.ports import NotPresent, NotVisible
from keyvault.agents import endings, memberships
from keyvault.audit.models import Event
from tests import cast as people
from tests.keyvault.agents import builders
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db


def end(cast, person, grant, *, digest=None):
    bound = digest or endings.grant_digest(grant)
    proof = people.proof_for(person, digest=bound, now=cast.now)
    return endings.end_grant(person=person, grant_id=grant.pk, proof_id=proof, now=cast.now)


@pytest.mark.parametrize("name", ["alice", "carol", "frank"])
def test_the_key_s_owner_and_whoever_manages_the_agent_end_a_grant(cast, name):
    agent, key = builders.agent(cast), keys.live(cast)
    grant = builders.granted(cast, agent, key)

    effect = end(cast, getattr(cast, name), grant)

    grant.refresh_from_db()
    assert grant.ended_at == cast.now
    assert effect.sentence == "No gateway is running."
    assert Event.objects.get(event="grant.ended").actor_id == str(getattr(cast, name).pk)


def test_nobody_else_ends_it_and_hidden_and_missing_are_alike(cast):
    grant = builders.granted(cast, builders.agent(cast), keys.live(cast))

    for person in (cast.bob, cast.dave, cast.erin, cast.mallory):
        with pytest.raises(NotVisible):
            end(cast, person, grant)
    with pytest.raises(NotVisible):
        endings.grant(person=cast.alice, grant_id=uuid4())
    grant.refresh_from_db()
    assert grant.ended_at is None


def test_a_right_of_a_person_is_none_of_this(cast):
    key = keys.live(cast)

    for grant in key.grants.all():
        with pytest.raises(NotVisible):
            endings.grant(person=cast.frank, grant_id=grant.pk)


def test_a_team_s_right_is_ended_by_the_key_s_keeper_alone(cast):
    key = keys.live(cast)
    grant = builders.granted(cast, cast.payments.group, key)

    with pytest.raises(NotVisible):
        end(cast, cast.carol, grant)
    end(cast, cast.alice, grant)


def test_r26_a_code_for_something_else_ends_nothing(cast):
    agent, key = builders.agent(cast), keys.live(cast)
    one = builders.granted(cast, agent, key)
    other = builders.granted(cast, agent, keys.live(cast, name="mail-sender"))

    with pytest.raises(NotPresent):
        end(cast, cast.alice, one, digest=endings.grant_digest(other))


def test_an_agent_leaves_a_team_at_once(cast):
    agent = builders.agent(cast)
    with transaction.atomic():
        memberships.join(
            agent_id=agent.pk,
            group=cast.payments.group,
            request_id=uuid4(),
            actor=builders.TESTS,
            now=cast.now,
        )

    def leave(person):
        bound = endings.leave_digest(agent, "payments")
        proof = people.proof_for(person, digest=bound, now=cast.now)
        return endings.leave(
            person=person, name=agent.name, team="payments", proof_id=proof, now=cast.now
        )

    with pytest.raises(NotVisible):
        leave(cast.erin)
    leave(cast.alice)
    assert not agent.memberships.filter(left_at=None).exists()
    with pytest.raises(memberships.NotMember):
        leave(cast.alice)
