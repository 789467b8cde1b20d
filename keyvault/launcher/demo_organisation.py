"""The sample organisation of a demo: people with real second factors, teams, environments.

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
        _write(directory, [facts for _, facts in made])


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


def _write(directory: Path, people: list[Mapping[str, Any]]) -> None:
    facts = {"url": settings.PUBLIC_URL, "gateway": None, "people": people, "agents": []}
    write_private(directory / "demo.json", json.dumps(facts, indent=1))
