"""Tokens and spent assertions go when they count for nothing, and not before."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyvault.agents import tidying
from keyvault.agents.models import AccessToken, UsedAssertion
from keyvault.agents.tokens import Source
from tests.keyvault.agents import builders, proving

pytestmark = pytest.mark.django_db


def test_a_spent_assertion_is_remembered_for_as_long_as_it_would_be_accepted(cast):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    proving.by_assertion(signer.sign(proving.assertion_claims(agent, now=cast.now)))
    expires_at = UsedAssertion.objects.get().expires_at

    tidying.tidy(now=expires_at)
    assert UsedAssertion.objects.exists()
    tidying.tidy(now=expires_at + timedelta(seconds=1))
    assert not UsedAssertion.objects.exists()


def test_a_dead_token_is_kept_for_thirty_days_and_while_a_child_names_it(cast):
    agent = builders.agent(cast)
    parent = builders.token(cast, agent, ttl_s=60)
    child = builders.token(cast, agent, ttl_s=60, source=Source(parent=parent.token))
    late = cast.now + timedelta(days=30, seconds=61)

    tidying.tidy(now=late - timedelta(seconds=2))
    assert AccessToken.objects.count() == 2
    tidying.tidy(now=late)
    assert list(AccessToken.objects.all()) == [parent.token]
    assert child.token.parent_id == parent.token.pk
    tidying.tidy(now=late)
    assert not AccessToken.objects.exists()
