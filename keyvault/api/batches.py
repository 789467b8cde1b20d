"""Rotations of many keys: ask for them, and follow them by the figures that the page shows.

People only: an agent has single keys rotated that it uses.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import Field

from approvals import selectors as asked
from approvals.ports import NotVisible
from keyvault.actions import rotate_keys
from keyvault.api import asking, batch_shapes, pages, principals, requests, schemas, shapes, waiting
from keyvault.api.principals import Principal, caller
from keyvault.api.problems import Fault, Problem
from keyvault.api.requests import CREATED, WaitQuery
from keyvault.inventory.selectors import Filters
from keyvault.rotation import batches, progress

if TYPE_CHECKING:
    from collections.abc import Iterable

    from approvals.models import Request
    from keyvault.inventory.models import Key
    from keyvault.rotation.models import RotationBatch

router = Router(tags=["rotations"])
_COMMENTS = {
    "incident": "An incident asks for new values.",
    "manual": "Asked for by API.",
}
_ON_ITS_WAY = frozenset({"approved", "executing"})
_Word = Annotated[str, Field(max_length=120)]


class Chosen(schemas.In):
    """Filters as the list of keys takes them; without one, every key that is the caller's to rotate."""

    q: _Word = ""
    environment: _Word = ""
    provider: _Word = ""
    connection: _Word = ""
    team: _Word = ""
    label: _Word = ""
    owner: Literal["", "me"] = ""
    due: Literal["", "expiring", "overdue"] = ""


class StartRotations(schemas.In):
    """Which keys shall move to new versions, and why: `keys` by name, or those behind a `filter`."""

    reason: Literal["incident", "manual"]
    keys: Annotated[list[schemas.Name], Field(max_length=batches.MOST)] = Field(
        default_factory=list
    )
    filter: Chosen | None = None
    comment: Annotated[str, Field(max_length=4000)] = ""
    ticket: schemas.Ticket = ""


class StopBatch(schemas.In):
    """Why no more keys are begun; it stands in the ledger and on the page."""

    reason: Annotated[str, Field(min_length=1, max_length=400)]


@router.post(
    "/rotations", response={CREATED: batch_shapes.StartedMany}, operation_id="startRotations"
)
def start_rotations(
    request: HttpRequest, body: StartRotations, query: Query[WaitQuery]
) -> HttpResponse:
    """Ask to rotate up to 1,000 keys, the riskiest first and a bounded number at a time.

    With `wait`, answer once the batch exists or will not come.
    """
    principal, now = caller(request), timezone.now()
    person = principal.person
    action = rotate_keys.plan(
        person=person,
        keys=_chosen(principal, body, now=now),
        trigger=body.reason,
        reason=body.comment.strip() or _COMMENTS[body.reason],
    )
    made = rotate_keys.ask(person=person, action=action, ticket=body.ticket, now=now)
    request_id = made.pk

    def read() -> tuple[Request, RotationBatch | None]:
        principals.of(request, now=timezone.now())
        return asked.by_ids([request_id])[request_id], progress.by_request(request_id)

    found, batch = waiting.until(
        read,
        lambda seen: seen[1] is not None or seen[0].state not in _ON_ITS_WAY,
        whose=principal.label,
        wait_s=query.wait,
    )
    told = batch_shapes.StartedMany(
        request=shapes.request(requests.request_of(principal, found.pk), None),
        batch=batch_shapes.batch(batch) if batch else None,
    )
    response = HttpResponse(told.model_dump_json(), status=CREATED, content_type="application/json")
    where = f"rotations/batches/{batch.pk}" if batch else f"requests/{found.pk}"
    response["Location"] = f"/api/v1/{where}"
    return response


@router.get(
    "/rotations/batches/{uuid:batch_id}",
    response=batch_shapes.Batch,
    operation_id="getRotationBatch",
)
def get_rotation_batch(
    request: HttpRequest, batch_id: UUID, query: Query[WaitQuery]
) -> HttpResponse:
    """Return how far a batch is. With `wait`, answer once its figures have changed."""
    first = _read(request, batch_id)
    known = request.headers.get("If-None-Match")

    def is_news(found: batch_shapes.Batch) -> bool:
        return not pages.has(request, pages.tag(found)) if known else found != first

    found = waiting.until(
        lambda: _read(request, batch_id),
        is_news,
        whose=caller(request).label,
        wait_s=query.wait,
    )
    response = pages.tagged(request, found)
    if query.wait and not is_news(found):
        response["Retry-After"] = str(waiting.AGAIN_S)
    return response


@router.post(
    "/rotations/batches/{uuid:batch_id}/stop",
    response=batch_shapes.Batch,
    operation_id="stopRotationBatch",
)
def stop_rotation_batch(request: HttpRequest, batch_id: UUID, body: StopBatch) -> HttpResponse:
    """Have no more keys of a batch begun; rotations that run go on.

    People only: who asked for it, or may have all of its keys rotated. 409 when no key waits.
    """
    principal, now = caller(request), timezone.now()
    reason = body.reason.strip()
    if not reason:
        raise Problem("invalid", errors=[Fault("Say why: it stands in the ledger.", "/reason")])
    _batch(principal, batch_id)
    progress.stop(person=principal.person, batch_id=batch_id, reason=reason, now=now)
    return pages.told(_read(request, batch_id))


def _chosen(principal: Principal, body: StartRotations, *, now: datetime) -> Iterable[Key]:
    """Return the keys that a body means. Raises Problem."""
    if bool(body.keys) == (body.filter is not None):
        raise Problem("invalid", errors=[Fault("Give `keys` or a `filter`.", "/keys")])
    if body.filter is not None:
        given = {name: value.strip() for name, value in body.filter.model_dump().items()}
        chosen = rotate_keys.of_filters(principal.person, Filters(**given), now=now)
        named = principal.token.keys
        chosen = chosen if named is None else chosen.filter(name__in=named)
        return chosen[: batches.MOST + 1]
    found, unknown = rotate_keys.of_names(principal.person, body.keys)
    foreign = [at for at, name in enumerate(body.keys) if not asking.names(principal, name)]
    if unknown or foreign:
        said = "There is no key of this name that you may have rotated."
        places = sorted({*unknown, *foreign})
        raise Problem("invalid", errors=[Fault(said, f"/keys/{at}") for at in places])
    return found


def _batch(principal: Principal, batch_id: UUID) -> RotationBatch:
    """Return a batch that the caller may see, all of whose keys its token names. Raises NotVisible."""
    found, named = progress.batch(principal.person, batch_id), principal.token.keys
    if named is not None and found.keys.exclude(key__name__in=named).exists():
        raise NotVisible(f"batch {batch_id}")
    return found


def _read(request: HttpRequest, batch_id: UUID) -> batch_shapes.Batch:
    """Return a batch after looking again whether the token still holds."""
    principal = principals.of(request, now=timezone.now())
    return batch_shapes.batch(_batch(principal, batch_id))
