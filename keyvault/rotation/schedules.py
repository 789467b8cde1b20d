"""Keep schedules honest: a value that ends at its provider is replaced before, and a missed day is told.

Called by the clock. The day of a key's next rotation is one column, whatever
asks for it; so the pages show it, and what has become due is begun in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef

from keyvault.connections import selectors as connections
from keyvault.findings import selectors as found
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory import changes
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyState
from keyvault.providers.base import Shape
from keyvault.rotation import services
from keyvault.rotation.models import ENDED, Rotation
from keyvault.rotation.states import State
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.vault.models import Version

EXPIRY = "expiry"
# What is due is begun within seconds; an hour is no hiccup of a clock.
LATE = timedelta(hours=1)
_AGAIN = timedelta(days=1)


def bring_forward(now: datetime) -> int:
    """Have each value that ends at its provider replaced in time; return how many days moved."""
    ahead = timedelta(days=settings.ROTATION_EXPIRY_DAYS)
    return sum(_bring_forward(version, ahead, now) for version in versions.ending_first(ahead))


def try_anew(now: datetime) -> int:
    """Give a value that ends at its provider another day when the rotation of its day went back.

    A day later, and sooner the nearer the end is. Returns how many days were given.
    """
    went_back = Rotation.objects.filter(
        state=State.ROLLED_BACK, slot=F("key__rotation_due_at"), key__state=KeyState.LIVE
    )
    rotations = list(went_back)
    # Asked once for all: a key that keeps its day is met again at every turn of the clock.
    ends = versions.ends([rotation.key_id for rotation in rotations])
    return sum(
        _try_anew(rotation, ends[rotation.key_id], now)
        for rotation in rotations
        if rotation.key_id in ends
    )


def due_before_end(version: Version, ahead: timedelta) -> datetime | None:
    """Return when a version is replaced because it ends: in time, but never before half its life.

    So the successor of a version that lives shortly is not due at once.
    """
    if version.expires_at is None:
        return None
    since = version.issued_at or version.created_at
    return version.expires_at - min(ahead, (version.expires_at - since) / 2)


def tell_missed(now: datetime) -> int:
    """Open a finding about each rotation that did not begin on its day, and close what has begun.

    Returns how many are open. A rotation that is open or went back is told by its own finding.
    """
    missed = {str(key.pk): key for key in _missed(now)}
    known = {row.subject_id: row for row in found.of_kind(FindingKind.MISSED)}
    for key_id in missed.keys() - known.keys():
        key = missed[key_id]
        with transaction.atomic(durable=True):
            findings.open(
                kind=FindingKind.MISSED,
                subject=inventory.subject(key),
                sentence=_sentence(key),
                now=now,
            )
    for key_id in known.keys() - missed.keys():
        with transaction.atomic(durable=True):
            findings.close(
                kind=FindingKind.MISSED,
                subject=findings.subject_of(known[key_id]),
                sentence="It has begun, or is not due any more.",
                now=now,
            )
    return len(missed)


def _bring_forward(version: Version, ahead: timedelta, now: datetime) -> bool:
    due, key = due_before_end(version, ahead), version.key
    if due is None or (key.rotation_due_at is not None and key.rotation_due_at <= due):
        return False
    if Rotation.objects.filter(key=key, slot=due).exists():
        # That day has passed, and the one that stands was given in its place.
        return False
    with transaction.atomic(durable=True):
        moved = changes.want_rotation(
            key_id=key.pk,
            cause=EXPIRY,
            due_at=due,
            request_id=key.request_id or key.pk,
            actor=services.CLOCK,
            now=now,
        )
    return moved.rotation_cause == EXPIRY


def _try_anew(rotation: Rotation, end: datetime, now: datetime) -> bool:
    ended_at = rotation.ended_at
    if ended_at is None or (left := end - ended_at) < LATE:
        return False
    with transaction.atomic(durable=True):
        changes.want_rotation(
            key_id=rotation.key_id,
            cause=EXPIRY,
            due_at=ended_at + min(_AGAIN, left / 2),
            request_id=rotation.request_id,
            actor=services.CLOCK,
            now=now,
            in_place_of=rotation.slot,
        )
    return True


def _missed(now: datetime) -> Sequence[Key]:
    rotations = Rotation.objects.filter(key=OuterRef("pk"))
    rows = Key.objects.filter(state=KeyState.LIVE, rotation_due_at__lte=now - LATE)
    rows = rows.exclude(Exists(rotations.exclude(state__in=ENDED)))
    rows = rows.exclude(Exists(rotations.filter(slot=OuterRef("rotation_due_at"))))
    return [key for key in rows.select_related("connection") if not _ends_by_itself(key)]


def _ends_by_itself(key: Key) -> bool:
    can = connections.capabilities(key.connection)
    return can is not None and can.shape == Shape.EPHEMERAL


def _sentence(key: Key) -> str:
    day = f"{key.rotation_due_at:%d %B %Y, %H:%M} UTC" if key.rotation_due_at else ""
    if connections.capabilities(key.connection) is None:
        why = f"the plug-in of {key.connection.title} is not loaded"
    else:
        why = "no clock has begun it"
    return f"{key.name} was to be rotated on {day}, and has not begun: {why}."
