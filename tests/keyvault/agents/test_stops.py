"""The kill switch: who stops an agent, who lifts that, and that it holds at once."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction

from approvals.ports import NotPresent, NotVisible
from keyvault.agents import clients, issuing, memberships, services, stops, tokens
from keyvault.agents.models import AccessToken, Agent, AgentState
from keyvault.agents.tokens import BadToken
from keyvault.audit.models import Event
from keyvault.inventory.models import Grant
from tests import cast as people
from tests import races
from tests.keyvault.agents import builders
from tests.keyvault.invalidation import snapshots
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db
ACTS = {stops.SUSPEND: stops.suspend, stops.RESUME: stops.resume, stops.RETIRE: stops.retire}


def act(kind, cast, person, agent, *, bound=None):
    agent.refresh_from_db()
    digest = bound or stops.digest(kind, agent)
    proof = people.proof_for(person, digest=digest, now=cast.now)
    return ACTS[kind](
        person=person, name=agent.name, cause="odd calls", proof_id=proof, now=cast.now
    )


@pytest.mark.parametrize("name", ["alice", "carol", "erin", "frank"])
def test_whoever_may_stops_an_agent_at_once(cast, name):
    agent = builders.agent(cast)
    issued = builders.token(cast, agent)

    result = act(stops.SUSPEND, cast, getattr(cast, name), agent)

    assert result.agent.state == AgentState.SUSPENDED
    assert result.effect.sentence == "No gateway is running."
    with pytest.raises(BadToken):
        tokens.authenticate(issued.text.reveal().decode(), now=cast.now)
    told = Event.objects.get(event="agent.suspended")
    assert (told.actor_id, told.fields["cause"]) == (str(getattr(cast, name).pk), "odd calls")


@pytest.mark.parametrize("name", ["bob", "dave", "mallory"])
def test_nobody_else_stops_an_agent(cast, name):
    agent = builders.agent(cast)

    with pytest.raises(NotVisible):
        act(stops.SUSPEND, cast, getattr(cast, name), agent)

    agent.refresh_from_db()
    assert agent.state == AgentState.ACTIVE


def test_r26_the_code_is_bound_to_the_act_and_to_the_agent_as_it_stands(cast):
    agent = builders.agent(cast)
    before = stops.digest(stops.RETIRE, agent)

    with pytest.raises(NotPresent):
        act(stops.SUSPEND, cast, cast.alice, agent, bound=before)
    act(stops.SUSPEND, cast, cast.alice, agent)
    with pytest.raises(NotPresent):
        act(stops.RETIRE, cast, cast.alice, agent, bound=before)


def test_an_owner_lifts_the_own_suspension(cast):
    agent = builders.agent(cast)
    issued = builders.token(cast, agent)
    act(stops.SUSPEND, cast, cast.alice, agent)

    assert act(stops.RESUME, cast, cast.carol, agent).agent.state == AgentState.ACTIVE
    assert tokens.authenticate(issued.text.reveal().decode(), now=cast.now)


@pytest.mark.parametrize("stopper", ["erin", "frank"])
def test_an_owner_cannot_lift_a_containment(cast, stopper):
    agent = builders.agent(cast)
    act(stops.SUSPEND, cast, getattr(cast, stopper), agent)

    for person in (cast.alice, cast.carol):
        with pytest.raises(stops.Contained, match="somebody on duty"):
            act(stops.RESUME, cast, person, agent)
    for person in (cast.dave, cast.mallory):
        with pytest.raises(NotVisible):
            act(stops.RESUME, cast, person, agent)
    assert act(stops.RESUME, cast, cast.grace, agent).agent.contained is False


def test_an_owner_on_duty_does_not_lift_the_containment_of_the_own_agent(cast):
    people.join(cast.alice, "responders", now=cast.now)
    agent = builders.agent(cast)
    act(stops.SUSPEND, cast, cast.erin, agent)

    with pytest.raises(stops.Contained):
        act(stops.RESUME, cast, cast.alice, agent)


def test_somebody_on_duty_can_contain_what_its_owner_had_suspended(cast):
    agent = builders.agent(cast)
    act(stops.SUSPEND, cast, cast.alice, agent)
    act(stops.SUSPEND, cast, cast.erin, agent)

    with pytest.raises(stops.Contained):
        act(stops.RESUME, cast, cast.alice, agent)
    assert Event.objects.filter(event="agent.suspended").count() == 2


def test_a_responder_does_not_lift_what_an_owner_decided(cast):
    agent = builders.agent(cast)
    act(stops.SUSPEND, cast, cast.alice, agent)

    with pytest.raises(NotVisible):
        act(stops.RESUME, cast, cast.erin, agent)


def test_an_active_agent_has_nothing_to_lift(cast):
    with pytest.raises(stops.NotStopped, match="is active"):
        act(stops.RESUME, cast, cast.alice, builders.agent(cast))


def test_retiring_ends_whatever_an_agent_held(cast):
    agent, key = builders.agent(cast), keys.live(cast)
    builders.granted(cast, agent, key)
    with transaction.atomic():
        clients.add_secret(agent_id=agent.pk, actor=builders.TESTS, now=cast.now)
        memberships.join(
            agent_id=agent.pk,
            group=cast.payments.group,
            request_id=uuid4(),
            actor=builders.TESTS,
            now=cast.now,
        )
    issued = builders.token(cast, agent)

    act(stops.RETIRE, cast, cast.alice, agent)

    assert not Grant.objects.filter(agent=agent, ended_at=None).exists()
    assert not agent.clients.filter(ended_at=None).exists()
    assert not agent.memberships.filter(left_at=None).exists()
    assert not agent.tokens.filter(ended_at=None).exists()
    with pytest.raises(BadToken):
        tokens.authenticate(issued.text.reveal().decode(), now=cast.now)
    with pytest.raises(services.Retired):
        act(stops.SUSPEND, cast, cast.erin, agent)


def test_an_administrator_may_retire_an_orphan_and_a_responder_may_not(cast):
    agent = builders.agent(cast)

    with pytest.raises(NotVisible):
        act(stops.RETIRE, cast, cast.erin, agent)
    assert act(stops.RETIRE, cast, cast.frank, agent).agent.state == AgentState.RETIRED


def test_the_mark_of_outside_text_is_set_and_never_taken_off(cast):
    agent = builders.agent(cast)

    def describe(marked):
        with transaction.atomic():
            return services.describe(
                agent_id=agent.pk,
                title="Refund bot",
                purpose=agent.purpose,
                reads_outside_text=marked,
                actor=builders.TESTS,
                now=cast.now,
            )

    assert describe(True).reads_outside_text
    assert describe(False).reads_outside_text
    assert Event.objects.get(event="agent.changed").fields == {"fields": ["reads_outside_text"]}


@pytest.mark.django_db(transaction=True)
def test_of_two_stops_at_the_same_moment_one_code_counts_once(cast):
    agent = builders.agent(cast)
    proof = people.proof_for(cast.alice, digest=stops.digest(stops.SUSPEND, agent), now=cast.now)
    barrier, done, refused = threading.Barrier(2), [], []

    def press():
        try:
            barrier.wait()
            done.append(
                stops.suspend(
                    person=cast.alice, name=agent.name, cause="x", proof_id=proof, now=cast.now
                )
            )
        except NotPresent as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=press) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(done), len(refused)) == (1, 1)
    assert Agent.objects.get().state == AgentState.SUSPENDED
    assert Event.objects.filter(event="agent.suspended").count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_result_waits_for_every_gateway_and_names_the_silent(cast):
    from keyvault.invalidation.models import GatewayInstance

    agent = builders.agent(cast)
    GatewayInstance.objects.create(
        name="one",
        audit_mode="durable",
        started_at=cast.now,
        seen_at=cast.now + timedelta(minutes=5),
        applied=snapshots.everything(),
    )

    silent = act(stops.SUSPEND, cast, cast.alice, agent).effect
    GatewayInstance.objects.update(applied="1000000:1000000:")
    heard = act(stops.RESUME, cast, cast.alice, agent).effect

    assert (silent.gateways, silent.waiting) == (1, 1)
    assert heard.sentence.startswith("Effective on all gateways after ")


@pytest.mark.django_db(transaction=True)
def test_retiring_an_agent_and_giving_a_token_back_take_turns(cast, monkeypatch):
    """The parent is locked and its child is not yet, when the agent is retired."""
    agent = builders.agent(cast)
    parent = builders.token(cast, agent, ttl_s=1800)
    with transaction.atomic():
        tokens.issue(
            holder=agent,
            ttl_s=60,
            now=cast.now + timedelta(seconds=1),
            source=tokens.Source(parent=parent.token),
        )
    racers, record = [], tokens._record

    def slow(event, row, **more):
        record(event, row, **more)
        if not racers:
            racers.append(races.Racer(lambda: act(stops.RETIRE, cast, cast.alice, agent)))
            races.await_somebody_waiting()

    monkeypatch.setattr(tokens, "_record", slow)
    issuing.revoke(text=parent.text.reveal().decode(), now=cast.now)
    racers[0].finish()

    causes = AccessToken.objects.values_list("ended_cause", flat=True)
    assert list(causes) == ["given back"] * 2
    assert Agent.objects.get().state == AgentState.RETIRED
