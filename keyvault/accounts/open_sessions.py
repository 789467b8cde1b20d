"""List a person's open sessions and end one of them.

A session is named by the keyed label that the ledger shows; its key, which
opens it, is never put on a page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from django.conf import settings
from django.contrib import auth
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest

from approvals.ports import NotVisible
from keyvault.accounts import selectors, sessions
from keyvault.accounts.models import User
from keyvault.audit import ledger


@dataclass(frozen=True, slots=True)
class OpenSession:
    """One browser that is signed in. `address` and `agent` are of its sign-in."""

    label: str
    started_at: datetime
    seen_at: datetime
    address: str
    agent: str
    is_this: bool


def of(request: HttpRequest, *, now: datetime) -> list[OpenSession]:
    """Return the sessions of whoever asks, this one first, then the latest seen."""
    here = sessions.label(request)
    found = [_open(key, data, here=here) for key, data in _rows(sessions.person(request), now=now)]
    return sorted(found, key=lambda row: (not row.is_this, -row.seen_at.timestamp()))


def end(*, user: User, label: str, now: datetime) -> None:
    """End one session of a person, found by its label. Raises NotVisible."""
    with transaction.atomic(durable=True):
        for key, _ in _rows(user, now=now):
            if sessions.label_of(key) == label:
                Session.objects.filter(pk=key).delete()
                ledger.record(
                    "session.closed",
                    actor=selectors.actor(user),
                    subject=selectors.subject(user),
                    now=now,
                )
                return
        raise NotVisible("no such session of this person")


def _rows(user: User, *, now: datetime) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield key and content of a person's live sessions.

    Django keeps whose a session is inside its signed content, so every live
    session is read; sessions of a person whose password or epoch changed are dead.
    """
    for row in Session.objects.filter(expire_date__gt=now).iterator():
        data = row.get_decoded()
        is_theirs = data.get(auth.SESSION_KEY) == str(user.pk)
        if is_theirs and data.get(auth.HASH_SESSION_KEY) == user.get_session_auth_hash():
            seen_at = float(data.get(sessions.SEEN, 0))
            if now.timestamp() - seen_at <= settings.SESSION_IDLE_S:
                yield row.pk, data


def _open(key: str, data: dict[str, object], *, here: str) -> OpenSession:
    label = sessions.label_of(key)
    return OpenSession(
        label=label,
        started_at=_moment(data.get(sessions.STARTED)),
        seen_at=_moment(data.get(sessions.SEEN)),
        address=str(data.get(sessions.ADDRESS, "")),
        agent=str(data.get(sessions.AGENT, "")),
        is_this=label == here,
    )


def _moment(stamp: object) -> datetime:
    return datetime.fromtimestamp(float(str(stamp or 0)), tz=UTC)
