"""Read batches: who may see one, its numbers, and what keeps it from going faster.

The numbers of a batch come from one statement, in which each key is in exactly
one state; so they add up to all of its keys at every look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.db.models import Case, CharField, Count, Exists, Max, OuterRef, Q, QuerySet, Value, When

from approvals import queue
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.connections.models import Connection
from keyvault.inventory import access
from keyvault.rotation import batches
from keyvault.rotation.models import BatchKey, Rotation, RotationBatch, RotationState, Skip

if TYPE_CHECKING:
    from keyvault.accounts.models import User

STATES = ("waiting", "running", "held", "done", "rolled_back", "skipped")
_STATE = Case(
    When(settled_at=None, then=Value("waiting")),
    When(rotation=None, then=Value("skipped")),
    When(rotation__state=RotationState.COMPLETED, then=Value("done")),
    When(rotation__state=RotationState.ROLLED_BACK, then=Value("rolled_back")),
    When(rotation__state=RotationState.HELD, then=Value("held")),
    default=Value("running"),
    output_field=CharField(),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """How many keys of a batch are in each state, at one moment."""

    waiting: int = 0
    running: int = 0
    held: int = 0
    done: int = 0
    rolled_back: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """Return how many keys there are."""
        return sum(getattr(self, name) for name in STATES)

    @property
    def open(self) -> int:
        """Return how many rotations are open: they run, or wait for a person."""
        return self.running + self.held

    @property
    def is_over(self) -> bool:
        """Say whether nothing of it is under way or to come."""
        return not self.waiting and not self.open


@dataclass(frozen=True, slots=True)
class Limit:
    """A Connection at which keys wait. `open`: its rotations, whatever began them; `held` of them."""

    connection: Connection
    waiting: int
    open: int
    held: int
    most: int

    @property
    def is_full(self) -> bool:
        """Say whether nothing more is begun there now."""
        return self.open >= self.most


def by_request(request_id: UUID) -> RotationBatch | None:
    """Return the batch that a request has begun, or None. The caller has passed its gate."""
    return RotationBatch.objects.filter(request_id=request_id).first()


def batch(person: User, batch_id: UUID) -> RotationBatch:
    """Return a batch that this person may see. Raises NotVisible."""
    found = visible(person).filter(pk=batch_id).first()
    if found is None:
        raise NotVisible(f"batch {batch_id}")
    return found


def visible(person: User) -> QuerySet[RotationBatch]:
    """Return the batches that a person has asked for, or all of whose keys they may see."""
    if not person.is_active:
        return RotationBatch.objects.none()
    hidden = BatchKey.objects.filter(batch=OuterRef("pk")).exclude(
        key__in=access.visible_keys(person).order_by().values("pk")
    )
    return RotationBatch.objects.filter(Q(created_by=person) | ~Exists(hidden))


def newest(person: User, *, most: int) -> list[tuple[RotationBatch, Figures]]:
    """Return the newest batches that a person may see, with their numbers."""
    rows = list(visible(person)[:most])
    known = _figures([row.pk for row in rows])
    return [(row, known.get(row.pk, Figures())) for row in rows]


def may_stop(person: User, found: RotationBatch) -> bool:
    """Say whether a person may have no more keys begun: who asked, or may rotate all of them."""
    if not person.is_active:
        return False
    foreign = found.keys.exclude(key__in=access.rotatable_keys(person).order_by().values("pk"))
    return found.created_by_id == person.pk or not foreign.exists()


def stop(*, person: User, batch_id: UUID, reason: str, now: datetime) -> int:
    """Have no more keys of a batch begun. Raises NotVisible, batches.NothingWaits."""
    found = batch(person, batch_id)
    if not may_stop(person, found):
        raise NotVisible(f"batch {batch_id}")
    return batches.stop(batch_id=batch_id, reason=reason, actor=people.actor(person), now=now)


def figures(batch_id: UUID) -> Figures:
    """Return the numbers of a batch, from one statement."""
    return _figures([batch_id]).get(batch_id, Figures())


def ended_since(batch_id: UUID, moment: datetime) -> int:
    """Return how many rotations of a batch have ended since a moment, well or not."""
    return BatchKey.objects.filter(batch_id=batch_id, rotation__ended_at__gte=moment).count()


def ended_at(batch_id: UUID) -> datetime | None:
    """Return when the last of what was begun or skipped has ended."""
    found = BatchKey.objects.filter(batch_id=batch_id).aggregate(
        ended=Max("rotation__ended_at"), settled=Max("settled_at")
    )
    return max((one for one in found.values() if one), default=None)


def limits(batch_id: UUID) -> Sequence[Limit]:
    """Return the Connections at which keys of a batch wait, with the room there."""
    waiting = BatchKey.objects.filter(batch_id=batch_id, settled_at=None).order_by()
    rows = waiting.values_list("key__connection").annotate(count=Count("pk"))
    by_id = dict(rows)
    used, held = batches.open_at(), _held_at()
    places = Connection.objects.filter(pk__in=by_id).order_by("title")
    most = settings.ROTATION_PER_CONNECTION
    return [
        Limit(one, by_id[one.pk], used.get(one.pk, 0), held.get(one.pk, 0), most) for one in places
    ]


def skips(batch_id: UUID) -> dict[Skip, int]:
    """Return how many keys were left out, by the reason."""
    rows = BatchKey.objects.filter(batch_id=batch_id).exclude(skipped="").order_by("skipped")
    counted = rows.values_list("skipped").annotate(count=Count("pk"))
    return {Skip(cause): count for cause, count in counted}


def rows(person: User, batch_id: UUID, *, state: str = "") -> QuerySet[BatchKey]:
    """Return the keys of a batch that a person may see, in their order; of one state, or all."""
    found = BatchKey.objects.filter(
        batch_id=batch_id, key__in=access.visible_keys(person).order_by().values("pk")
    ).annotate(progress=_STATE)
    if state:
        found = found.filter(progress=state)
    return found.select_related("key__connection", "rotation").order_by("place")


def is_job_held(batch_id: UUID) -> bool:
    """Say whether the job that begins keys waits for a person, because it failed again and again."""
    found = queue.newest(kind=batches.JOB, subject_id=batch_id)
    return found is not None and found[0] == "held"


def of_rotation(person: User, rotation_id: UUID) -> RotationBatch | None:
    """Return the batch that has begun a rotation, if this person may see it."""
    return visible(person).filter(keys__rotation=rotation_id).first()


def _figures(batch_ids: Sequence[UUID]) -> dict[UUID, Figures]:
    rows = BatchKey.objects.filter(batch_id__in=batch_ids).annotate(progress=_STATE).order_by()
    found: dict[UUID, dict[str, int]] = {}
    for batch_id, state, count in rows.values_list("batch_id", "progress").annotate(Count("pk")):
        found.setdefault(batch_id, {})[state] = count
    return {batch_id: Figures(**counted) for batch_id, counted in found.items()}


def _held_at() -> dict[UUID, int]:
    rows = Rotation.objects.filter(state=RotationState.HELD).order_by()
    return dict(rows.values_list("key__connection").annotate(count=Count("pk")))
