"""Inside a running demo: make keys with many agents on them, rotate them, and say how it went.

    python -m tests.load.rotating make COUNT    (prints what the agents are, as JSON)
    python -m tests.load.rotating rotate KEY    (once for each line of standard input, until it
                                                 is over; prints its end, a line of JSON)

Runs in the environment of that installation. The first versions are issued by
the providers as any other; only the approvals of the keys are left out.
"""

# ruff: noqa: E402 - the models can be imported once Django is set up.

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import django

django.setup()

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from approvals.ports import Actor
from keyvault.accounts import selectors as accounts
from keyvault.accounts.models import User
from keyvault.actions import rotate_key
from keyvault.agents import clients
from keyvault.agents import services as registry
from keyvault.agents.models import Agent
from keyvault.connections import issuing
from keyvault.connections.models import Connection
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Health
from keyvault.inventory import grants
from keyvault.inventory.models import DeliveryMode, Environment, Key, KeyPermission, KeyState
from keyvault.launcher import demo
from keyvault.rotation import selectors as rotations
from keyvault.rotation.models import ENDED, RotationState

BENCH = Actor("system", "bench", "Benchmark")
KEYS = {
    "rotated-role": (
        "northwind-db",
        {"login_prefix": "rotated", "owner_role": demo.OWNER, "connection_limit": "-1"},
    ),
    "rotated-user": ("northwind-cache", {"keys": "app:*", "commands": "+@read +@write +ping"}),
}
# Long enough for the slowest machine; a rotation that needs it has failed.
PATIENCE_S = 300


@dataclass
class Once:
    """One try at a job that nobody else can take."""

    now: datetime
    kind: str = "request.execute"
    subject_id: UUID = field(default_factory=uuid4)
    is_last: bool = False

    def fence(self) -> None:
        """Hold the claim."""

    def reached(self, point: str) -> None:
        """Pass the point."""


def make(count: int) -> None:
    """Make both keys, and `count` agents that use both; print the agents' secrets."""
    now = timezone.now()
    agents = register([f"consumer-{number}" for number in range(count)], now)
    for name, (slug, options) in KEYS.items():
        key = issued(name, slug, options, now)
        let_use(key, agents, now)
        _wait_for(key, agents, now)
    sys.stdout.write(json.dumps({agent.name: secret for agent, secret in agents.items()}) + "\n")


def register(names: Sequence[str], now: datetime) -> dict[Agent, str]:
    """Make agents of alice; return them with their secrets."""
    agents = {}
    for name in names:
        with transaction.atomic():
            agent = registry.register(
                name=name,
                title=name.replace("-", " ").capitalize(),
                purpose="Measured.",
                owner=alice(),
                backup_owner=None,
                team=team(),
                reads_outside_text=False,
                now=now,
                actor=BENCH,
            )
            secret = clients.add_secret(agent_id=agent.pk, actor=BENCH, now=now)
        agents[agent] = secret.text.reveal().decode()
    return agents


def alice() -> User:
    """Return who owns all of it."""
    return User.objects.get(username="alice")


def team() -> Group:
    """Return the group of alice's team."""
    return accounts.team_by_slug("payments").group


def issued(name: str, slug: str, options: Mapping[str, str], now: datetime) -> Key:
    """Make a key of alice whose first version the provider of a Connection issues."""
    where = Connection.objects.get(slug=slug)
    with transaction.atomic():
        key = Key.objects.create(
            name=name, title=name, connection=where, provider=where.provider, options=options,
            environment=where.environment or Environment.objects.order_by("protected").first(),
            owner=alice(), team=team(), purpose="Measured.", volume_per_day=1000,
            delivery_mode=DeliveryMode.PULL, lifetime_days=90, cadence_days=30, created_at=now,
            request_id=uuid4(),
        )  # fmt: skip
    issuing.issue(key=key, request_id=key.request_id, run=Once(now), actor=BENCH)
    key.state, key.live_at, key.expires_at = KeyState.LIVE, now, now + timedelta(days=90)
    key.save()
    with transaction.atomic():
        grants.give_at_go_live(key=key, request_id=key.request_id, actor=BENCH, now=now)
    return key


def let_use(key: Key, agents: Iterable[Agent], now: datetime) -> None:
    """Let agents use a key for a day."""
    with transaction.atomic():
        for agent in agents:
            grants.grant(
                key=key, holder=agent, permission=KeyPermission.USE, reason="bench",
                actor=BENCH, now=now, ends_at=now + timedelta(days=1),
            )  # fmt: skip


def _wait_for(key: Key, agents: Iterable[Agent], now: datetime) -> None:
    """Have the rotations of a key wait for agents, which report."""
    with transaction.atomic():
        for agent in agents:
            dependents.register(
                key=key, name=agent.name, agent_id=agent.pk, health=Health.REPORTS, now=now,
                actor=BENCH,
            )  # fmt: skip


def rotate(name: str) -> None:
    """Rotate one key as its owner does and wait for the end."""
    began = time.monotonic()
    request = rotate_key.ask(person=alice(), name=name, reason="bench", now=timezone.now())
    while time.monotonic() - began < PATIENCE_S:
        ident = rotations.by_request(request.pk)
        found = rotations.by_id(ident) if ident else None
        if found is not None and found.state in (*ENDED, RotationState.HELD):
            break
        time.sleep(0.1)
    said = {"state": found.state if found else "", "sentence": found.sentence if found else ""}
    sys.stdout.write(json.dumps(said | {"seconds": time.monotonic() - began}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(int(sys.argv[2]))
    else:
        for _ in sys.stdin:
            rotate(sys.argv[2])
