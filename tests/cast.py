"""The people of the tests: who they are, what they belong to, and their second factors.

alice owns keys and asks, bob and carol approve from different teams, dave
audits, erin responds, frank and grace administer, mallory has nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.test import Client
from django.utils import timezone

from approvals.ports import Actor
from keyvault.accounts import factors, services, sessions, totp
from keyvault.accounts.devices import Lockout, StepUp, TOTPDevice
from keyvault.accounts.models import Installation, Membership, Team, User
from keyvault.audit.models import Event
from keyvault.crypto.secret import Secret
from keyvault.inventory.models import Environment
from tests.rows import Rows

PASSWORD = "correct horse battery staple"
HOST = Actor("system", "tests", "Tests")
PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "mallory")
MEMBERS = {
    "payments": ("alice", "carol"),
    "security": ("bob",),
    "administrators": ("frank", "grace"),
    "auditors": ("dave",),
    "responders": ("erin",),
}
ENVIRONMENTS = {"dev": ("Development", False), "prod": ("Production", True)}
TEAMS = {"payments": "Payments", "security": "Security"}
JOINED_AGO = timedelta(days=30)


@dataclass
class Cast:
    """Everybody, by name; `now` is the moment of the test and they joined a month before."""

    now: datetime
    alice: User = field(init=False)
    bob: User = field(init=False)
    carol: User = field(init=False)
    dave: User = field(init=False)
    erin: User = field(init=False)
    frank: User = field(init=False)
    grace: User = field(init=False)
    mallory: User = field(init=False)
    payments: Team = field(init=False)
    security: Team = field(init=False)
    administrators: Team = field(init=False)
    auditors: Team = field(init=False)
    responders: Team = field(init=False)
    dev: Any = field(init=False)
    prod: Any = field(init=False)

    def everybody(self) -> list[User]:
        """Return the whole cast."""
        return [getattr(self, name) for name in PEOPLE]


def assemble(*, now: datetime | None = None) -> Cast:
    """Make the cast in an empty database, enrolled and out of solo mode."""
    cast = Cast(now=now or timezone.now())
    with transaction.atomic():
        Installation.objects.all().delete()
        _ROWS.put(cast.now - JOINED_AGO)
    for user in User.objects.filter(username__in=PEOPLE):
        setattr(cast, user.username, user)
    for team in Team.objects.select_related("group").filter(slug__in=MEMBERS):
        setattr(cast, team.slug, team)
    for environment in Environment.objects.filter(slug__in=ENVIRONMENTS):
        setattr(cast, environment.slug, environment)
    return cast


def _make(then: datetime) -> None:
    """Make everybody by the services of the product."""
    services.seed_roles(now=then)
    for slug, title in TEAMS.items():
        services.create_team(slug=slug, title=title, now=then, actor=HOST)
    users = {name: person(name, now=then) for name in PEOPLE}
    for slug, names in MEMBERS.items():
        for name in names:
            join(users[name], slug, now=then)
    for slug, (title, protected) in ENVIRONMENTS.items():
        Environment.objects.create(slug=slug, title=title, protected=protected, created_at=then)
    Installation.objects.update(set_up_at=then)


_ROWS = Rows(
    _make,
    (Group, User, Team, Membership, TOTPDevice, Environment, Installation, Event),
    renamed=User,
)


def person(name: str, *, now: datetime, enrolled: bool = True, password: str = PASSWORD) -> User:
    """Make one account, with a confirmed authenticator unless told otherwise."""
    user = services.create_user(
        username=name,
        name=name.title(),
        email=f"{name}@example.com",
        now=now,
        actor=HOST,
        password=password,
    )
    if enrolled:
        enrol(user, now=now)
    return user


def enrol(user: User, *, now: datetime) -> TOTPDevice:
    """Give a person a confirmed authenticator with a seed made of their name."""
    seed = Secret.of(user.username.ljust(totp.SEED_BYTES, "-")[: totp.SEED_BYTES])
    return factors.install(user=user, seed=seed, now=now)


def join(user: User, slug: str, *, now: datetime) -> None:
    """Let a person join a team or role."""
    group = Group.objects.get(name=slug)
    with transaction.atomic():
        services.add_member(user=user, group=group, now=now, actor=HOST)


def leave(user: User, slug: str, *, now: datetime) -> None:
    """Let a person leave a team or role."""
    group = Group.objects.get(name=slug)
    with transaction.atomic():
        services.end_membership(user=user, group=group, now=now, actor=HOST)


def code(user: User, *, steps: int = 0) -> str:
    """Return the code of the person's app now, or some steps of 30 s away. It may be used."""
    device = TOTPDevice.objects.get(user=user, confirmed=True)
    step = totp.step_at(time.time()) + device.drift + steps
    return totp.at_step(device.seed().reveal(), step)


def totp_code(user: User) -> str:
    """Return a code that will be accepted now: earlier uses are forgotten, and so are failures."""
    TOTPDevice.objects.filter(user=user).update(last_step=-1)
    Lockout.objects.all().delete()
    return code(user)


def proof_for(user: User, *, digest: str, now: datetime) -> Any:
    """Return the id of a fresh, unused step-up of this person for one digest."""
    return StepUp.objects.create(user=user, method="totp", digest=digest, proved_at=now).pk


def sign_in(client: Client, user: User, *, now: datetime | None = None) -> Client:
    """Give a test client a session that password and second factor have opened."""
    moment = (now or timezone.now()).timestamp()
    client.force_login(user, backend=sessions.BACKEND)
    session = client.session
    device = TOTPDevice.objects.get(user=user, confirmed=True)
    session["otp_device_id"] = device.persistent_id
    for mark in (sessions.STARTED, sessions.SEEN, sessions.VERIFIED):
        session[mark] = moment
    session.save()
    return client


def recovery_codes(user: User, *, now: datetime) -> list[str]:
    """Give a person a sheet of recovery codes and return them."""
    return factors.issue_recovery(user=user, now=now)
