"""Set up an empty installation: one token from the terminal, one administrator, once.

`/setup/` is open until the first administrator has a second factor and has
typed a recovery code back; then never again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from approvals.ports import Actor, Subject
from keyvault.accounts import (
    administrators,
    codes,
    factors,
    lockout,
    names,
    selectors,
    services,
)
from keyvault.accounts.models import ADMINISTRATORS, Installation, SetupToken, User
from keyvault.audit import ledger

TOKEN_LIFE = timedelta(minutes=30)
HOST = Actor("system", "host", "The terminal of this host")
HERE = Subject("installation", "1", "This installation")


class AlreadySetUp(Exception):
    """Set-up is over, and never opens again."""


class BadToken(lockout.Rejected):
    """The set-up token is wrong, used or older than 30 minutes."""


def is_open() -> bool:
    """Say whether this installation still waits to be set up."""
    return not Installation.objects.filter(id=1, set_up_at__isnull=False).exists()


def make_token(*, now: datetime) -> str:
    """Return a new token to print; earlier ones stop working. Raises AlreadySetUp."""
    with transaction.atomic(durable=True):
        _require_open()
        SetupToken.objects.all().delete()
        token = codes.new()
        row = SetupToken.objects.create(
            digest=_digest(token), created_at=now, expires_at=now + TOKEN_LIFE
        )
        ledger.record(
            "installation.token_made",
            actor=HOST,
            subject=HERE,
            now=now,
            fields={"expires_at": row.expires_at.isoformat()},
        )
    return token


def spend_token(*, token: str, ip: str, now: datetime) -> None:
    """Use the token up. Raises BadToken, LockedOut, AlreadySetUp.

    The session of the browser that typed it carries the right from then on.
    """
    with lockout.attempt(username="setup", ip=ip, now=now), transaction.atomic():
        _require_open()
        fits = SetupToken.objects.filter(digest=_digest(token), used_at=None, expires_at__gt=now)
        if fits.update(used_at=now) != 1:
            raise BadToken("no such token")


@dataclass(frozen=True, slots=True)
class FirstPerson:
    """What the first administrator typed."""

    username: str
    name: str
    email: str
    password: str


def make_administrator(*, person: FirstPerson, now: datetime) -> User:
    """Make the first administrator, or change the one that an earlier try left unfinished.

    Raises names.BadName, ValidationError on a weak password, AlreadySetUp.
    """
    with transaction.atomic(durable=True):
        _require_open()
        services.seed_roles(now=now)
        user = _broken_off() or services.create_user(
            username=person.username, name=person.name, email=person.email, now=now, actor=HOST
        )
        user.username = names.username(person.username)
        user.name, user.email = person.name, person.email
        user.email_key = names.email_key(person.email)
        user.may_enrol_until = now + TOKEN_LIFE
        user.save()
        services.change_password(user=user, password=person.password, now=now, actor=HOST)
        _make_administrator(user, now=now)
    return user


def _broken_off() -> User | None:
    """Return the administrator of an earlier try, without the factor that it may have got."""
    user = User.objects.order_by("created_at").first()
    if user is not None:
        factors.discard(user=user)
    return user


def _make_administrator(user: User, *, now: datetime) -> None:
    if not selectors.has_role(user, ADMINISTRATORS):
        group = selectors.team_by_slug(ADMINISTRATORS).group
        services.add_member(user=user, group=group, now=now, actor=HOST)


def mark_done(*, actor: Actor, administrator: User, now: datetime) -> None:
    """Write that this installation is set up, inside the caller's transaction.

    Raises AlreadySetUp. The demo calls it too, after it has made its people.
    """
    _require_open()
    Installation.objects.filter(id=1).update(set_up_at=now)
    ledger.record(
        "installation.set_up",
        actor=actor,
        subject=HERE,
        now=now,
        fields={"administrator": administrator.username},
    )


def _require_open() -> None:
    if administrators.lock().set_up_at is not None:
        raise AlreadySetUp("This installation is set up; /setup/ does not open again.")


def _digest(token: str) -> str:
    return codes.digest(token, purpose="setup", owner="1")
