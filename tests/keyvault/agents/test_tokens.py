"""Tokens of agents: short, narrow, ended with what they came from, and never told apart."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Q

from keyvault.agents import services, tokens
from keyvault.agents.models import AccessToken, AgentState
from keyvault.agents.tokens import BadScope, BadToken, Source
from keyvault.audit.models import Event
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db


def _text(issued):
    return issued.text.reveal().decode()


def test_a_token_opens_for_its_agent_and_only_its_digest_is_kept(cast):
    agent = builders.agent(cast)

    issued = builders.token(cast, agent)

    assert tokens.authenticate(_text(issued), now=cast.now).agent == agent
    assert _text(issued) not in str(AccessToken.objects.values().get())
    assert Event.objects.filter(event="token.issued", subject_id=str(agent.pk)).count() == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: "kvt_nobody",
        lambda text: text[:-8] + "AAAAAAAA",
        lambda text: text.replace("kvt_", "kvx_"),
        lambda text: text + "\x00",
        lambda text: text.upper(),
    ],
)
def test_r30_whatever_is_wrong_with_a_token_looks_the_same(cast, spoil):
    issued = builders.token(cast, builders.agent(cast))

    with pytest.raises(BadToken) as refusal:
        tokens.authenticate(spoil(_text(issued)), now=cast.now)

    assert str(refusal.value) == "This token opens nothing."


def test_a_token_ends_at_its_minute(cast):
    issued = builders.token(cast, builders.agent(cast), ttl_s=60)

    assert tokens.authenticate(_text(issued), now=cast.now + timedelta(seconds=59))
    with pytest.raises(BadToken):
        tokens.authenticate(_text(issued), now=cast.now + timedelta(seconds=60))


@pytest.mark.parametrize("ttl_s", [0, 59, 3601, -900])
def test_no_agent_gets_a_token_outside_the_limits(cast, ttl_s):
    with pytest.raises(BadScope, match="60 to 3600 seconds"):
        builders.token(cast, builders.agent(cast), ttl_s=ttl_s)


def test_r65_a_child_is_never_wider_or_longer_than_its_parent(cast):
    agent = builders.agent(cast)
    parent = builders.token(cast, agent, ttl_s=120, keys=["ledger-reader", "mail"])

    child = builders.token(cast, agent, ttl_s=3600, source=Source(parent=parent.token))
    narrow = builders.token(
        cast, agent, ttl_s=60, keys=["mail"], source=Source(parent=parent.token)
    )

    assert child.token.expires_at == parent.token.expires_at
    assert child.token.keys == ["ledger-reader", "mail"]
    assert narrow.token.keys == ["mail"]
    with pytest.raises(BadScope, match="other-key"):
        builders.token(
            cast, agent, ttl_s=60, keys=["other-key"], source=Source(parent=parent.token)
        )


def test_r65_a_token_takes_its_children_along(cast):
    agent = builders.agent(cast)
    parent = builders.token(cast, agent)
    child = builders.token(cast, agent, source=Source(parent=parent.token))
    grandchild = builders.token(cast, agent, source=Source(parent=child.token))
    other = builders.token(cast, agent)

    with transaction.atomic():
        ended = tokens.end(
            tokens_of=Q(pk=parent.token.pk), cause="tests", actor=builders.TESTS, now=cast.now
        )

    assert set(ended) == {parent.token.pk, child.token.pk, grandchild.token.pk}
    for dead in (parent, child, grandchild):
        with pytest.raises(BadToken):
            tokens.authenticate(_text(dead), now=cast.now)
    assert tokens.authenticate(_text(other), now=cast.now)
    assert Event.objects.filter(event="token.ended").count() == 3


def test_a_suspended_agent_has_no_working_token_and_gets_none(cast):
    agent = builders.agent(cast)
    issued = builders.token(cast, agent)

    with transaction.atomic():
        services.set_state(
            agent_id=agent.pk,
            state=AgentState.SUSPENDED,
            cause="odd behaviour",
            actor=builders.TESTS,
            now=cast.now,
        )

    with pytest.raises(BadToken):
        tokens.authenticate(_text(issued), now=cast.now)
    with pytest.raises(BadToken):
        builders.token(cast, agent)


def test_a_resumed_agent_works_with_the_tokens_it_had_and_a_retired_one_never_again(cast):
    agent = builders.agent(cast)
    issued = builders.token(cast, agent)

    def move(state):
        with transaction.atomic():
            services.set_state(
                agent_id=agent.pk, state=state, cause="tests", actor=builders.TESTS, now=cast.now
            )

    move(AgentState.SUSPENDED)
    move(AgentState.ACTIVE)
    assert tokens.authenticate(_text(issued), now=cast.now)
    move(AgentState.RETIRED)
    with pytest.raises(services.Retired):
        move(AgentState.ACTIVE)


@pytest.mark.django_db(transaction=True)
def test_no_child_is_born_of_a_parent_that_ends_meanwhile(cast):
    """Twenty exchanges race one revocation: afterwards no token of the family works."""
    agent = builders.agent(cast)
    parent = builders.token(cast, agent)
    barrier = threading.Barrier(21)
    born = []

    def exchange():
        try:
            barrier.wait()
            born.append(builders.token(cast, agent, source=Source(parent=parent.token)))
        except BadToken:
            return
        finally:
            connection.close()

    def revoke():
        try:
            barrier.wait()
            with transaction.atomic():
                tokens.end(
                    tokens_of=Q(pk=parent.token.pk),
                    cause="tests",
                    actor=builders.TESTS,
                    now=cast.now,
                )
        finally:
            connection.close()

    threads = [threading.Thread(target=exchange) for _ in range(20)]
    threads.append(threading.Thread(target=revoke))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not AccessToken.objects.filter(ended_at=None).exists()
    for issued in born:
        with pytest.raises(BadToken):
            tokens.authenticate(_text(issued), now=cast.now)


def test_a_name_is_never_used_for_two_agents(cast):
    builders.agent(cast)

    with pytest.raises(services.NameTaken):
        builders.agent(cast, "Refund-Bot ")
