"""Change people, teams, roles and memberships, each with its line in the ledger.

Inner writers: the caller owns the transaction. Who may call them, and after
whose approval, is decided above: set-up, invitations and the actions.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.contrib.auth.models import Group
from django.contrib.auth.password_validation import validate_password
from django.db.models import F

from approvals.ports import Actor, Subject
from keyvault.accounts import administrators, factors, notices, selectors
from keyvault.accounts.models import (
    ADMINISTRATORS,
    AUDITORS,
    RESPONDERS,
    Membership,
    Team,
    User,
)
from keyvault.audit import ledger

ROLES = {
    ADMINISTRATORS: "Administrators",
    AUDITORS: "Auditors",
    RESPONDERS: "Responders",
}


class AlreadyMember(Exception):
    """The person already belongs to the group."""


class NotMember(Exception):
    """The person does not belong to the group."""


def seed_roles(*, now: datetime) -> None:
    """Make the built-in roles that are missing. Idempotent; part of the schema, so no event."""
    for slug, title in ROLES.items():
        group, _ = Group.objects.get_or_create(name=slug)
        Team.objects.get_or_create(
            group=group,
            defaults={"slug": slug, "title": title, "kind": Team.Kind.ROLE, "created_at": now},
        )


def create_team(
    *, slug: str, title: str, now: datetime, actor: Actor, kind: str = Team.Kind.TEAM
) -> Team:
    """Make a team or role. Raises IntegrityError when the slug is taken."""
    group = Group.objects.create(name=slug)
    team = Team.objects.create(group=group, slug=slug, title=title, kind=kind, created_at=now)
    ledger.record(
        "team.created",
        actor=actor,
        subject=Subject("team", slug, title),
        now=now,
        fields={"kind": str(kind)},
    )
    return team


def create_user(
    *,
    username: str,
    name: str,
    email: str,
    now: datetime,
    actor: Actor,
    password: str | None = None,
) -> User:
    """Make an account. Raises names.BadName, ValidationError on a weak password."""
    user = User.objects.create_user(username=username, name=name, email=email, created_at=now)
    if password is not None:
        validate_password(password, user)
        user.set_password(password)
        user.save(update_fields=["password"])
    ledger.record(
        "person.created",
        actor=actor,
        subject=selectors.subject(user),
        now=now,
        fields={"username": user.username},
    )
    return user


def add_member(
    *, user: User, group: Group, now: datetime, actor: Actor, request_id: UUID | None = None
) -> Membership:
    """Let a person join a team or role from `now` on. Raises AlreadyMember."""
    administrators.lock()
    if Membership.objects.filter(user=user, group=group, left_at=None).exists():
        raise AlreadyMember(f"{user} already belongs to {group.name}.")
    row = Membership.objects.create(user=user, group=group, joined_at=now, request_id=request_id)
    _record_membership("membership.joined", row, actor=actor, now=now, request_id=request_id)
    administrators.leave_solo_if_two(actor=actor, now=now)
    return row


def end_membership(
    *, user: User, group: Group, now: datetime, actor: Actor, request_id: UUID | None = None
) -> Membership:
    """Let a person leave a team or role. Raises NotMember, LastAdministrators."""
    administrators.lock()
    row = Membership.objects.filter(user=user, group=group, left_at=None).first()
    if row is None:
        raise NotMember(f"{user} does not belong to {group.name}.")
    if group.name == ADMINISTRATORS:
        administrators.require_two_without(user.pk)
    row.left_at = max(now, row.joined_at)
    row.save(update_fields=["left_at"])
    _record_membership("membership.left", row, actor=actor, now=now, request_id=request_id)
    return row


def _record_membership(
    event: str, row: Membership, *, actor: Actor, now: datetime, request_id: UUID | None
) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=selectors.subject(row.user),
        now=now,
        fields={"group": row.group.name},
        request_id=request_id,
    )


def deactivate(*, user: User, now: datetime, actor: Actor, request_id: UUID | None = None) -> None:
    """Close an account; its sessions end with the next request. Raises LastAdministrators.

    Memberships stay as they are: an inactive person counts nowhere, and the
    history must not suggest that somebody moved teams.
    """
    administrators.lock()
    if selectors.has_role(user, ADMINISTRATORS):
        administrators.require_two_without(user.pk)
    closed = User.objects.filter(pk=user.pk, is_active=True)
    if closed.update(is_active=False, deactivated_at=now, session_epoch=F("session_epoch") + 1):
        ledger.record(
            "person.deactivated",
            actor=actor,
            subject=selectors.subject(user),
            now=now,
            request_id=request_id,
        )


def reset_factor(
    *, user: User, now: datetime, actor: Actor, request_id: UUID | None = None
) -> None:
    """Remove a person's factors, end the sessions and bar deciding for 24 h.

    Enrolling anew takes an invitation; the password alone never does.
    """
    administrators.lock()
    factors.discard(user=user)
    user.factor_changed_at, user.may_enrol_until = now, None
    user.save(update_fields=["factor_changed_at", "may_enrol_until"])
    _next_epoch(user)
    ledger.record(
        "factor.reset",
        actor=actor,
        subject=selectors.subject(user),
        now=now,
        request_id=request_id,
    )
    notices.promise(notices.FACTOR_RESET, user)


def change_password(*, user: User, password: str, now: datetime, actor: Actor) -> None:
    """Set a new password; every session and token of the person ends. Raises ValidationError."""
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    # Sessions end with the password that they were opened by; command lines end with the epoch.
    _next_epoch(user)
    ledger.record("password.changed", actor=actor, subject=selectors.subject(user), now=now)


def end_sessions(*, user: User, now: datetime, actor: Actor) -> None:
    """End every session of a person with its next request."""
    _next_epoch(user)
    ledger.record("sessions.ended", actor=actor, subject=selectors.subject(user), now=now)


def _next_epoch(user: User) -> None:
    """End the sessions of before, also where `user` was read before another end of sessions."""
    User.objects.filter(pk=user.pk).update(session_epoch=F("session_epoch") + 1)
    user.refresh_from_db(fields=["session_epoch"])
