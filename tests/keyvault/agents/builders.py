"""Make agents for tests: through the services, so that their events come with them."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from approvals.ports import Actor
from keyvault.agents import services, tokens
from keyvault.agents.models import Agent
from keyvault.inventory import grants
from keyvault.inventory.models import Grant, Key, KeyPermission
from tests.cast import Cast

TESTS = Actor("system", "tests", "Tests")


def agent(cast: Cast, name: str = "refund-bot", **changes: object) -> Agent:
    """Return an agent of alice's that may do nothing yet."""
    facts = {
        "title": "Refund bot",
        "purpose": "Pays refunds that a person has agreed to.",
        "owner": cast.alice,
        "backup_owner": cast.carol,
        "team": cast.payments.group,
        "reads_outside_text": False,
    }
    with transaction.atomic():
        return services.register(name=name, now=cast.now, actor=TESTS, **{**facts, **changes})


def granted(cast: Cast, holder: object, key: Key, *, days: int = 30) -> Grant:
    """Let an agent or a group use a key for some days."""
    with transaction.atomic():
        return grants.grant(
            key=key,
            holder=holder,
            permission=KeyPermission.USE,
            reason="tests",
            actor=TESTS,
            now=cast.now,
            ends_at=cast.now + timedelta(days=days),
        )


def token(cast: Cast, holder: object, *, ttl_s: int = 900, **more: object) -> tokens.Issued:
    """Give an agent or a person a token."""
    with transaction.atomic():
        source = more.pop("source", tokens.Source())
        return tokens.issue(holder=holder, ttl_s=ttl_s, now=cast.now, source=source, **more)
