"""The sample organisation of a demo: people with real second factors, teams, environments, agents.

Loaded through the same services as everything else, in one transaction, and
only into a demo that nobody has set up. Nothing here is reachable otherwise.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from approvals.ports import Actor
from keyvault.accounts import factors, selectors, services, setup, totp
from keyvault.accounts.models import ADMINISTRATORS, AUDITORS, RESPONDERS, User
from keyvault.actions import defaults
from keyvault.agents import clients
from keyvault.agents import services as registry
from keyvault.crypto.secret import Secret
from keyvault.launcher import demo_connections
from keyvault.launcher.installation import write_private

PAYMENTS, SECURITY = "payments", "security"
TEAMS = {PAYMENTS: "Payments", SECURITY: "Security"}
LOADER = Actor("system", "demo", "The demo")
_PASSWORD_BYTES = 15


class NotADemo(Exception):
    """The installation is real or set up already; a demo is never loaded into it."""


@dataclass(frozen=True, slots=True)
class Person:
    """One person of the sample organisation and what they belong to."""

    username: str
    name: str
    groups: tuple[str, ...]
    does: str


PEOPLE = (
    Person("alice", "Alice Moreau", (PAYMENTS,), "owns keys and asks for them"),
    Person("bob", "Bob Okafor", (SECURITY,), "approves for security"),
    Person("carol", "Carol Jensen", (PAYMENTS,), "approves for payments"),
    Person("dave", "Dave Lindqvist", (AUDITORS,), "audits"),
    Person("erin", "Erin Castellano", (RESPONDERS,), "responds to incidents"),
    Person("frank", "Frank Adeyemi", (ADMINISTRATORS,), "administers"),
    Person("grace", "Grace Nakamura", (ADMINISTRATORS,), "administers"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """One agent of the sample organisation. Which keys it may use is asked for in the demo."""

    name: str
    title: str
    purpose: str
    reads_outside_text: bool
    owner: str = "alice"
    backup: str = "carol"


AGENTS = (
    Program(
        "refund-bot",
        "Refund bot",
        "Pays refunds that a person has agreed to.",
        reads_outside_text=False,
    ),
    Program(
        "support-triage",
        "Support triage",
        "Reads customers' mail, looks up their orders and suggests an answer.",
        reads_outside_text=True,
    ),
)


def load(directory: Path, *, now: datetime) -> None:
    """Make the organisation and write DIR/demo.json. Raises NotADemo.

    The file is written before the commit: a crash in between leaves a file
    that the next start writes anew, never people whose passwords are lost.
    """
    if not settings.IS_DEMO:
        raise NotADemo("KEYVAULT_DEMO is not set: this installation is real.")
    with transaction.atomic(durable=True):
        if not setup.is_open():
            raise NotADemo("This installation is set up; a demo is never loaded into it.")
        services.seed_roles(now=now)
        defaults.seed(now=now)
        defaults.add_sandbox(now=now, actor=LOADER)
        for slug, title in TEAMS.items():
            services.create_team(slug=slug, title=title, now=now, actor=LOADER)
        made = [_make(person, now=now) for person in PEOPLE]
        people = {facts["username"]: user for user, facts in made}
        demo_connections.make(directory, actor=LOADER, now=now)
        setup.mark_done(actor=LOADER, administrator=people["frank"], now=now)
        agents = [_equip(program, people, now=now) for program in AGENTS]
        _write(directory, [facts for _, facts in made], agents)


def _make(person: Person, *, now: datetime) -> tuple[User, Mapping[str, Any]]:
    """Make one person; return the account and what demo.json says of it."""
    password, seed = secrets.token_urlsafe(_PASSWORD_BYTES), secrets.token_bytes(totp.SEED_BYTES)
    user = services.create_user(
        username=person.username,
        name=person.name,
        email=f"{person.username}@northwind.example",
        now=now,
        actor=LOADER,
        password=password,
    )
    factors.install(user=user, seed=Secret.of(seed), now=now)
    for slug in person.groups:
        group = selectors.team_by_slug(slug).group
        services.add_member(user=user, group=group, now=now, actor=LOADER)
    return user, {
        "username": person.username,
        "name": person.name,
        "password": password,
        "totp_secret": base64.b32encode(seed).decode(),
        "roles": list(person.groups),
        "does": person.does,
    }


def _equip(program: Program, people: Mapping[str, User], *, now: datetime) -> Mapping[str, Any]:
    """Register one agent with a client secret; return what demo.json says of it."""
    agent = registry.register(
        name=program.name,
        title=program.title,
        purpose=program.purpose,
        owner=people[program.owner],
        backup_owner=people[program.backup],
        team=selectors.team_by_slug(PAYMENTS).group,
        reads_outside_text=program.reads_outside_text,
        now=now,
        actor=LOADER,
    )
    made = clients.add_secret(agent_id=agent.pk, actor=LOADER, now=now)
    # No key exists in a fresh demo, and no agent may use one before people have agreed to it.
    return {"client_id": agent.name, "client_secret": made.text.reveal().decode(), "keys": []}


def _write(
    directory: Path, people: list[Mapping[str, Any]], agents: list[Mapping[str, Any]]
) -> None:
    facts = {"url": settings.PUBLIC_URL, "gateway": None, "people": people, "agents": agents}
    write_private(directory / "demo.json", json.dumps(facts, indent=1))
