"""How a batch of rotations is told to programs: the figures of its page, and what limits it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.urls import reverse
from pydantic import Field

from keyvault.api import schemas
from keyvault.api.schemas import Out
from keyvault.rotation import progress

if TYPE_CHECKING:
    from keyvault.rotation.models import RotationBatch


class Limit(Out):
    """A Connection at which keys wait, and its open rotations of the most that may be."""

    connection: str
    waiting: int
    open: int = Field(description="Its open rotations, whatever began them.")
    held: int = Field(description="Those of the open ones that wait for a person.")
    most: int


class Skipped(Out):
    """How many keys were left out for one reason."""

    cause: str
    sentence: str
    count: int


class Batch(Out):
    """Many keys on their way. Each key counts in exactly one of the six states."""

    id: UUID
    request_id: UUID
    trigger: str
    comment: str
    started_by: str
    created_at: datetime
    stopped_at: datetime | None
    stopped_by: str
    stopped_for: str
    ended_at: datetime | None
    total: int
    waiting: int
    running: int
    held: int
    done: int
    rolled_back: int
    skipped: int
    is_over: bool
    is_job_held: bool = Field(description="What begins keys has failed and waits for a person.")
    limits: list[Limit]
    skips: list[Skipped]
    page: str = Field(description="Where people follow it and can have no more keys begun.")


class StartedMany(Out):
    """What came of asking for many. `batch` is null until the request is approved and has run."""

    request: schemas.Request
    batch: Batch | None


def batch(row: RotationBatch) -> Batch:
    """Return a batch with its figures of this moment."""
    figures = progress.figures(row.pk)
    copied = ("id", "request_id", "trigger", "started_by", "created_at")
    stopped = ("stopped_at", "stopped_by", "stopped_for")
    return Batch(
        **{name: getattr(row, name) for name in copied + stopped},
        **{name: getattr(figures, name) for name in progress.STATES},
        comment=row.reason,
        total=figures.total,
        is_over=figures.is_over,
        ended_at=progress.ended_at(row.pk) if figures.is_over else None,
        is_job_held=progress.is_job_held(row.pk),
        limits=[
            Limit(
                connection=one.connection.slug,
                waiting=one.waiting,
                open=one.open,
                held=one.held,
                most=one.most,
            )
            for one in progress.limits(row.pk)
        ],
        skips=[
            Skipped(cause=str(cause), sentence=str(cause.label), count=count)
            for cause, count in progress.skips(row.pk).items()
        ],
        page=reverse("rotation-batch", args=[row.pk]),
    )
