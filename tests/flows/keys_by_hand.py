"""Put a key that agents fetch into a running installation, and rotate it by hand.

    python -m tests.flows.keys_by_hand give AGENT KEY    (the value on standard input)
    python -m tests.flows.keys_by_hand move KEY          (likewise)

Runs in the environment of that installation. `move` calls what the forms of the
console call: its owner has the key rotated, and pastes the new value as soon as
the worker asks for it.
"""

# ruff: noqa: E402 - the models can be imported once Django is set up.

from __future__ import annotations

import sys
from datetime import timedelta
from uuid import uuid4

import django

django.setup()

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from approvals.ports import Actor
from keyvault.accounts.models import User
from keyvault.actions import rotate_key
from keyvault.agents.models import Agent
from keyvault.connections import intake
from keyvault.connections import selectors as connections
from keyvault.connections.models import Connection
from keyvault.crypto.secret import Secret
from keyvault.inventory import grants
from keyvault.inventory.models import DeliveryMode, Environment, Key, KeyPermission, KeyState
from keyvault.providers.base import Issued
from keyvault.vault import services as vault
from tests.keyvault.gateway.builders import until

TESTS = Actor("system", "tests", "Tests")


def give(agent_name: str, name: str, value: str) -> None:
    """Make a live key with a first version and let an agent use it for a day."""
    now, agent = timezone.now(), Agent.objects.get(name=agent_name)
    key = pasted(name, value, team=agent.team)
    with transaction.atomic():
        grants.grant(
            key=key,
            holder=agent,
            permission=KeyPermission.USE,
            reason="tests",
            actor=TESTS,
            now=now,
            ends_at=now + timedelta(days=1),
        )


def pasted(name: str, value: str, *, team: Group) -> Key:
    """Make a live key of alice whose first value stands in the sealed table as if she had pasted it."""
    now = timezone.now()
    where = Connection.objects.get(provider="manual")
    with transaction.atomic():
        key = Key.objects.create(
            name=name,
            title=name,
            environment=where.environment or Environment.objects.first(),
            connection=where,
            provider=where.provider,
            owner=User.objects.get(username="alice"),
            team=team,
            purpose="tests",
            volume_per_day=1,
            delivery_mode=DeliveryMode.PULL,
            lifetime_days=30,
            cadence_days=30,
            created_at=now,
            state=KeyState.LIVE,
            live_at=now,
            expires_at=now + timedelta(days=30),
        )
        grants.give_at_go_live(key=key, request_id=uuid4(), actor=TESTS, now=now)
    _store(key, value)
    return key


def move(name: str, value: str) -> None:
    """Rotate a key of alice and paste the new value."""
    alice = User.objects.get(username="alice")
    rotate_key.ask(person=alice, name=name, reason="The vendor asks for it.", now=timezone.now())
    key = Key.objects.get(name=name)
    until(lambda: connections.awaits_intake(key.pk), 30)
    intake.intake(key=key, person=alice, typed={"value": value}, now=timezone.now())


def _store(key: Key, value: str) -> None:
    now = timezone.now()
    issued = Issued(f"by-hand-{uuid4()}", material={"value": Secret.of(value)})
    credential = vault.Credential(
        remote_id=issued.remote_id,
        remote=issued.to_json(),
        public=issued.public,
        material=issued.material,
    )
    with transaction.atomic():
        version = vault.begin(key_id=key.pk, request_id=uuid4(), server={}, now=now, actor=TESTS)
        vault.store(
            version_id=version.pk, credential=credential, provider="manual", now=now, actor=TESTS
        )
        vault.promote(version_id=version.pk, now=now, actor=TESTS)


if __name__ == "__main__":
    {"give": give, "move": move}[sys.argv[1]](*sys.argv[2:], sys.stdin.read())
