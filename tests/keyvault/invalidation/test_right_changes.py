"""Every write that can take a right away is noted by the database itself, and its spread is known."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import Q

from keyvault.agents import services as agents
from keyvault.agents import tokens
from keyvault.agents.models import Agent, AgentMembership, AgentState
from keyvault.dependents.models import Dependent
from keyvault.invalidation import services
from keyvault.invalidation.models import GatewayInstance, RightChange
from keyvault.inventory import grants
from keyvault.inventory import services as inventory
from keyvault.rotation.models import Rotation
from tests.keyvault.agents import builders
from tests.keyvault.invalidation import snapshots
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db


def _noted():
    """Return what was noted since the last call."""
    found = set(RightChange.objects.values_list("kind", "subject_id"))
    RightChange.objects.all().delete()
    return found


def _gateway(now, *, applied: str, seen_ago: timedelta = timedelta(0)) -> GatewayInstance:
    return GatewayInstance.objects.create(
        name=f"gateway-{uuid4()}",
        audit_mode="durable",
        started_at=now,
        seen_at=now - seen_ago,
        applied=applied,
    )


def test_each_kind_of_change_is_noted(cast):
    key, agent = keys.live(cast), builders.agent(cast)
    _noted()

    issued = builders.token(cast, agent)
    assert _noted() == {("token", issued.token.pk)}
    grant = builders.granted(cast, agent, key)
    assert _noted() == {("grant", grant.pk)}
    with transaction.atomic():
        grants.end_grant(grant=grant, actor=builders.TESTS, now=cast.now)
    assert _noted() == {("grant", grant.pk)}
    stay = AgentMembership.objects.create(
        agent=agent, group=cast.payments.group, joined_at=cast.now
    )
    assert _noted() == {("agent", agent.pk)}
    AgentMembership.objects.filter(pk=stay.pk).update(left_at=cast.now)
    assert _noted() == {("agent", agent.pk)}
    with transaction.atomic():
        tokens.end(tokens_of=Q(agent=agent), cause="tests", actor=builders.TESTS, now=cast.now)
    assert _noted() == {("token", issued.token.pk)}
    with transaction.atomic():
        agents.set_state(
            agent_id=agent.pk,
            state=AgentState.SUSPENDED,
            cause="tests",
            actor=builders.TESTS,
            now=cast.now,
        )
    assert _noted() == {("agent", agent.pk)}
    with transaction.atomic():
        inventory.revoke(key_id=key.pk, request_id=uuid4(), actor=builders.TESTS, now=cast.now)
    assert ("key", key.pk) in _noted()


def test_what_opens_or_closes_a_pending_version_is_noted_and_no_other_move(cast):
    key, agent = keys.live(cast), builders.agent(cast)
    row = Dependent.objects.create(
        key=key, agent=agent, name="bot", health="reads", created_at=cast.now
    )
    hand = Dependent.objects.create(key=key, name="hand", health="by_hand", created_at=cast.now)
    rotation = Rotation.objects.create(
        key=key, request_id=uuid4(), trigger="manual", since=cast.now, created_at=cast.now
    )
    move = Rotation.objects.filter(pk=rotation.pk).update
    _noted()

    for state, held_from, is_noted in (
        ("creating", "", False),
        ("validated", "", False),
        ("staged", "", True),
        ("promoting", "", False),
        ("held", "promoting", False),
        ("promoting", "", False),
        ("draining", "", True),
        ("held", "draining", False),
        ("rolling_back", "", False),
    ):
        move(state=state, held_from=held_from)
        assert _noted() == ({("key", key.pk)} if is_noted else set()), state
    move(state="promoting", new_id=uuid4())
    assert _noted() == {("key", key.pk)}
    move(new_id=uuid4())
    assert _noted() == {("key", key.pk)}
    move(wave=1, sentence="Words.")
    Dependent.objects.filter(pk=row.pk).update(push_note="Words.")
    Dependent.objects.filter(pk=hand.pk).update(ended_at=cast.now)
    assert _noted() == set()
    Dependent.objects.filter(pk=row.pk).update(ended_at=cast.now)
    assert _noted() == {("key", key.pk)}


def test_what_gives_and_takes_no_right_wakes_nobody(cast):
    builders.agent(cast)
    key = keys.live(cast)
    _noted()

    Agent.objects.update(last_seen_at=cast.now)
    type(key).objects.filter(pk=key.pk).update(title="Another title")

    assert _noted() == set()


@pytest.mark.django_db(transaction=True)
def test_a_change_is_effective_once_every_live_gateway_has_applied_it(cast):
    before = snapshots.everything()
    gateway = _gateway(cast.now, applied=before)
    _gateway(cast.now, applied=before, seen_ago=timedelta(minutes=5))  # It died long ago.
    with transaction.atomic():
        xact = services.transaction_id()
        Agent.objects.update(last_seen_at=cast.now)
    GatewayInstance.objects.filter(pk=gateway.pk).update(seen_at=cast.now + timedelta(hours=1))

    early = services.wait(xact, timeout_s=0.05)

    def apply():
        try:
            time.sleep(0.05)
            GatewayInstance.objects.filter(pk=gateway.pk).update(applied=snapshots.everything())
        finally:
            connection.close()

    thread = threading.Thread(target=apply)
    thread.start()
    late = services.wait(xact, timeout_s=5)
    thread.join()

    assert (early.gateways, early.waiting, early.is_everywhere) == (1, 1, False)
    assert "has not" in early.sentence or "have not" in early.sentence
    assert late.is_everywhere
    assert "Effective on all gateways after" in late.sentence


def test_a_right_that_is_given_waits_for_no_gateway_that_fell_silent(cast):
    silent = _gateway(cast.now, applied=snapshots.NOTHING, seen_ago=timedelta(seconds=5))
    GatewayInstance.objects.filter(pk=silent.pk).update(stale_max_s=300)
    xact = services.transaction_id()

    taken = services.wait(xact, timeout_s=0)
    given = services.wait(xact, timeout_s=0, is_gain=True)

    assert (taken.gateways, taken.waiting) == (1, 1)
    assert (given.gateways, given.waiting) == (0, 0)

    GatewayInstance.objects.filter(pk=silent.pk).update(seen_at=cast.now + timedelta(minutes=1))
    assert services.wait(xact, timeout_s=0, is_gain=True).waiting == 1


def test_without_a_gateway_nothing_waits(cast):
    effect = services.wait(services.transaction_id(), timeout_s=0)

    assert effect.is_everywhere
    assert effect.sentence == "No gateway is running."


def test_old_changes_are_forgotten(cast):
    builders.agent(cast)
    RightChange.objects.update(at=cast.now - timedelta(hours=2))
    builders.token(cast, builders.agent(cast, "other-bot"))

    assert services.forget(now=cast.now) >= 1

    assert RightChange.objects.exists()
    assert not RightChange.objects.filter(at__lt=cast.now - timedelta(hours=1)).exists()
