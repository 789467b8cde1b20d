"""alice asks that refund-bot may use a key; bob and carol approve; it reads, until she ends it."""

from __future__ import annotations

import pytest

from approvals.models import Request
from keyvault.agents import endings, equipment, stops, tokens
from keyvault.agents.selectors import grants_of
from keyvault.audit.models import Event
from tests import cast as people
from tests.keyvault.actions import conftest as actions
from tests.keyvault.agents import builders, proving

pytestmark = pytest.mark.django_db(transaction=True)
_registry, fake, house = actions._registry, actions.fake, actions.house


def test_an_agent_s_access_from_asking_to_ending(house):
    cast, now = house.cast, house.now
    agent = builders.agent(cast, reads_outside_text=True)
    made = house.ask(environment="prod", delivery_mode="pull")
    for person in (cast.bob, cast.carol):
        house.say(person, made)
    house.work()

    asked = house.let_use(days=14)
    for person in (cast.bob, cast.carol):
        house.say(person, asked)
    house.work()

    assert Request.objects.get(pk=asked.pk).state == "done"
    [grant] = grants_of(agent, now=now)
    assert (grant.key.name, grant.request_id) == ("ledger-reader", asked.pk)

    days = 30
    bound = equipment.digest(equipment.SECRET, agent, days=days)
    secret = equipment.add_secret(
        person=cast.alice,
        name=agent.name,
        days=days,
        proof_id=people.proof_for(cast.alice, digest=bound, now=now),
        now=now,
    )
    answer = proving.by_secret(agent.name, secret.text.reveal().decode())
    token = tokens.authenticate(answer.json()["access_token"], now=now)
    assert token.agent == agent

    bound = stops.digest(stops.SUSPEND, agent)
    proof = people.proof_for(cast.erin, digest=bound, now=now)
    stops.suspend(person=cast.erin, name=agent.name, cause="Odd calls.", proof_id=proof, now=now)
    with pytest.raises(tokens.BadToken):
        tokens.authenticate(answer.json()["access_token"], now=now)

    bound = endings.grant_digest(grant)
    proof = people.proof_for(cast.alice, digest=bound, now=now)
    endings.end_grant(person=cast.alice, grant_id=grant.pk, proof_id=proof, now=now)

    assert not grants_of(agent, now=now)
    told = Event.objects.filter(
        event__in=["grant.given", "grant.ended"], fields__holder_kind="agent"
    )
    assert [(row.event, row.fields["holder"]) for row in told.order_by("acted_at", "event")] == [
        ("grant.ended", str(agent.pk)),
        ("grant.given", str(agent.pk)),
    ]
