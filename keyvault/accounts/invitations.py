"""Invite a person, or let one whose factor was reset enrol a new one.

The link names the invitation and is no secret. The code is: it is made when
the inviter asks to see it, shown once, and typed in by the person invited.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from approvals.ports import Actor, NotVisible, Subject
from keyvault.accounts import administrators, codes, lockout, names, selectors, services
from keyvault.accounts.models import ADMINISTRATORS, Invitation, User
from keyvault.audit import ledger

LIFE = timedelta(hours=72)
ENROL_WITHIN = timedelta(hours=1)


class BadInvitation(lockout.Rejected):
    """The invitation is unknown, over, or the code is wrong; which of them is not said."""


class NameTaken(Exception):
    """There is an account or an open invitation of that user name."""


class NotSolo(Exception):
    """The installation has left solo mode: an invitation takes approval."""


def invite(
    *,
    username: str,
    name: str,
    email: str,
    groups: Sequence[str],
    invited_by: User,
    now: datetime,
    request_id: UUID | None = None,
) -> Invitation:
    """Open an invitation to join, inside the caller's transaction.

    `groups` are the slugs of teams and roles that the person will have from
    the start. Raises names.BadName, NameTaken, NotVisible for an unknown slug.
    """
    stored = names.username(username)
    require_free(stored, now=now)
    for slug in groups:
        selectors.team_by_slug(slug)
    return _open(
        Invitation(
            purpose=Invitation.Purpose.JOIN,
            username=stored,
            name=name,
            email=email,
            groups=list(groups),
            invited_by=invited_by,
            request_id=request_id,
            created_at=now,
            expires_at=now + LIFE,
        )
    )


def invite_second(
    *, username: str, name: str, email: str, invited_by: User, now: datetime
) -> Invitation:
    """Invite the second administrator right after set-up, when nobody can approve yet.

    Raises NotSolo once there are two, and what `invite` raises.
    """
    with transaction.atomic(durable=True):
        administrators.lock()
        if not administrators.solo():
            raise NotSolo("Others must approve an invitation now.")
        return invite(
            username=username,
            name=name,
            email=email,
            groups=[ADMINISTRATORS],
            invited_by=invited_by,
            now=now,
        )


def invite_to_enrol(
    *, user: User, invited_by: User, now: datetime, request_id: UUID | None = None
) -> Invitation:
    """Open the way to a new factor after an approved reset, inside the caller's transaction."""
    _close_open(Q(username=user.username), now=now)
    return _open(
        Invitation(
            purpose=Invitation.Purpose.ENROL,
            username=user.username,
            name=user.name,
            email=user.email,
            user=user,
            invited_by=invited_by,
            request_id=request_id,
            created_at=now,
            expires_at=now + LIFE,
        )
    )


def require_free(username: str, *, now: datetime) -> None:
    """Raise NameTaken when an account or an open invitation has this user name."""
    _close_open(Q(username=username, expires_at__lte=now), now=now)
    waiting = selectors.open_invitations().filter(username=username)
    if waiting.exists() or User.objects.filter(username=username).exists():
        raise NameTaken(f"The user name {username} is taken.")


def _close_open(which: Q, *, now: datetime) -> None:
    """Make room: one open invitation for a name is what the table allows."""
    Invitation.objects.filter(which, used_at=None, withdrawn_at=None).update(withdrawn_at=now)


def _open(row: Invitation) -> Invitation:
    row.save(force_insert=True)
    ledger.record(
        "person.invited",
        actor=selectors.actor(row.invited_by),
        subject=_subject(row),
        now=row.created_at,
        fields={"username": row.username, "groups": row.groups, "purpose": row.purpose},
        request_id=row.request_id,
    )
    return row


def find_open(invitation_id: UUID, *, now: datetime) -> Invitation:
    """Return an invitation that may still be used. Raises NotVisible."""
    row = selectors.open_invitations().filter(pk=invitation_id, expires_at__gt=now).first()
    if row is None:
        raise NotVisible(str(invitation_id))
    return row


def show_code(
    *, invitation_id: UUID, person: User, now: datetime, actor: Actor | None = None
) -> tuple[Invitation, str]:
    """Make a new code and return it, to show once; an earlier one stops working.

    Only the person who invited may; `actor` is the host where it acts for them. Raises
    NotVisible.
    """
    with transaction.atomic(durable=True):
        row = find_open(invitation_id, now=now)
        if row.invited_by_id != person.pk:
            raise NotVisible(str(invitation_id))
        code = codes.new()
        row.code_digest = _digest(row, code)
        row.save(update_fields=["code_digest"])
        _record("invitation.code_shown", row, actor=actor or selectors.actor(person), now=now)
    return row, code


def withdraw(*, invitation_id: UUID, person: User, now: datetime) -> None:
    """Close an invitation before it is used. Raises NotVisible."""
    with transaction.atomic(durable=True):
        row = find_open(invitation_id, now=now)
        unused = Invitation.objects.filter(pk=row.pk, used_at=None, withdrawn_at=None)
        if not unused.update(withdrawn_at=now):
            raise NotVisible(str(invitation_id))
        _record("invitation.withdrawn", row, actor=selectors.actor(person), now=now)


def accept(*, invitation_id: UUID, code: str, password: str, ip: str, now: datetime) -> User:
    """Use an invitation to join: make the account with its teams and roles, ready to enrol.

    Raises BadInvitation, LockedOut, ValidationError on a weak password (the
    invitation then stays open).
    """
    with _attempt(invitation_id, ip=ip, now=now), transaction.atomic(durable=True):
        row = _spend(invitation_id, code, Invitation.Purpose.JOIN, now=now)
        _refuse_leftover(row)
        actor = Actor("user", row.username, row.name)
        user = services.create_user(
            username=row.username,
            name=row.name,
            email=row.email,
            password=password,
            now=now,
            actor=actor,
        )
        for slug in row.groups:
            group = selectors.team_by_slug(slug).group
            services.add_member(
                user=user, group=group, now=now, actor=actor, request_id=row.request_id
            )
        _settle(row, user, now=now)
        return user


def _refuse_leftover(row: Invitation) -> None:
    """Refuse what nobody approved once others can: solo mode leaves no open door behind."""
    administrators.lock()
    if row.request_id is None and not administrators.solo():
        raise BadInvitation("made in solo mode, which is over")


def accept_enrolment(*, invitation_id: UUID, code: str, ip: str, now: datetime) -> User:
    """Use an invitation to enrol; the person still signs in with the password first.

    Raises BadInvitation, LockedOut.
    """
    with _attempt(invitation_id, ip=ip, now=now), transaction.atomic(durable=True):
        row = _spend(invitation_id, code, Invitation.Purpose.ENROL, now=now)
        if row.user is None or not row.user.is_active:
            raise BadInvitation("nobody to enrol")
        _settle(row, row.user, now=now)
        return row.user


def _attempt(invitation_id: UUID, *, ip: str, now: datetime) -> AbstractContextManager[None]:
    return lockout.attempt(username=f"invitation {invitation_id}", ip=ip, now=now)


def _spend(
    invitation_id: UUID, code: str, purpose: Invitation.Purpose, *, now: datetime
) -> Invitation:
    """Mark it used by one guarded update, so that of two racers one sees no row."""
    row = Invitation.objects.filter(pk=invitation_id, purpose=purpose).first()
    if row is None or not row.code_digest:
        raise BadInvitation("not open")
    fits = Invitation.objects.filter(
        pk=row.pk,
        code_digest=_digest(row, code),
        used_at=None,
        withdrawn_at=None,
        expires_at__gt=now,
    )
    if fits.update(used_at=now) != 1:
        raise BadInvitation("wrong code")
    return row


def _settle(row: Invitation, user: User, *, now: datetime) -> None:
    user.may_enrol_until = now + ENROL_WITHIN
    user.save(update_fields=["may_enrol_until"])
    Invitation.objects.filter(pk=row.pk).update(user=user)
    _record("invitation.used", row, actor=selectors.actor(user), now=now)


def _record(event: str, row: Invitation, *, actor: Actor, now: datetime) -> None:
    fields = {"username": row.username}
    if event == "invitation.used":
        fields["purpose"] = row.purpose
    ledger.record(event, actor=actor, subject=_subject(row), now=now, fields=fields)


def _subject(row: Invitation) -> Subject:
    return Subject("invitation", str(row.pk), row.name or row.username)


def _digest(row: Invitation, code: str) -> str:
    return codes.digest(code, purpose="invitation", owner=str(row.pk))
