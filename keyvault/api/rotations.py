"""Rotations: trigger one, follow it, and let a dependent say which version it has loaded.

Going on without proof, rolling back and confirming for somebody else are acts
of people on the page of the rotation; there is no address for them here.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel, Field

from approvals import selectors as asked
from approvals.ports import NotVisible
from keyvault.actions import about_keys, rotate_key
from keyvault.api import (
    asking,
    asks,
    pages,
    principals,
    requests,
    rotation_shapes,
    schemas,
    shapes,
    waiting,
)
from keyvault.api.keys import key_of
from keyvault.api.principals import Principal, caller
from keyvault.api.problems import Problem
from keyvault.api.requests import CREATED, WaitQuery
from keyvault.inventory import access
from keyvault.rotation import reports, selectors

if TYPE_CHECKING:
    from approvals.models import Request
    from keyvault.inventory.models import Key
    from keyvault.rotation.models import Rotation

router = Router(tags=["rotations"])
OK = 200
ROTATE, VIEW = "rotate", "view"
_LIST = "rotations"
_COMMENTS = {
    "ci": "A deployment wants a new value.",
    "incident": "An incident asks for a new value.",
    "manual": "Asked for by API.",
}
# With these a request still leads to a rotation that is not there yet.
_ON_ITS_WAY = frozenset({"approved", "executing"})


class StartRotation(schemas.In):
    """Why a key shall move to a new version. `deploy_id`: the deployment that wants it."""

    reason: schemas.Trigger
    comment: Annotated[str, Field(max_length=4000)] = ""
    deploy_id: schemas.DeployId = ""
    ticket: schemas.Ticket = ""


class Confirm(schemas.In):
    """A dependent says which version it has loaded, and whether it is well with it."""

    version: Annotated[int, Field(ge=1, le=999_999_999)]
    healthy: bool = True


class RotationsQuery(BaseModel):
    """How far a list of rotations goes."""

    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.post(
    "/keys/{str:name}/rotations",
    response={CREATED: rotation_shapes.Started, OK: rotation_shapes.Started},
    operation_id="startRotation",
)
def start_rotation(
    request: HttpRequest, name: str, body: StartRotation, query: Query[WaitQuery]
) -> HttpResponse:
    """Ask to rotate a key; where policy approves by itself it begins at once.

    A second trigger of a deployment whose rotation is under way answers that one,
    with 200. With `wait`, answer once the rotation exists or will not come.
    """
    principal, now = caller(request), timezone.now()
    row = key_of(principal, name, now=now)
    _require_rotate(principal, row)
    made, is_new = _triggered(principal, row, body, now=now)
    request_id, key_id = made.pk, row.pk

    def read() -> tuple[Request, Rotation | None]:
        principals.of(request, now=timezone.now())
        return asked.by_ids([request_id])[request_id], _of_request(key_id, request_id)

    found, rotation = waiting.until(
        read,
        lambda seen: seen[1] is not None or seen[0].state not in _ON_ITS_WAY,
        whose=principal.label,
        wait_s=query.wait,
    )
    return _started(principal, found, rotation, status=CREATED if is_new else OK)


@router.get(
    "/keys/{str:name}/rotations",
    response=rotation_shapes.RotationList,
    operation_id="listRotations",
)
def list_rotations(
    request: HttpRequest, name: str, query: Query[RotationsQuery]
) -> rotation_shapes.RotationList:
    """List the rotations of a key, newest first."""
    row = key_of(caller(request), name, now=timezone.now())
    mark = pages.mark(_LIST, query.cursor)
    found = selectors.of_key_before(row.pk, mark=str(mark or ""), most=query.limit + 1)
    shown = found[: query.limit]
    more = len(found) > len(shown)
    return rotation_shapes.RotationList(
        items=rotation_shapes.lines(shown),
        next_cursor=pages.cursor(_LIST, selectors.mark_of(shown[-1])) if more else None,
    )


@router.get(
    "/rotations/{uuid:rotation_id}",
    response=rotation_shapes.Rotation,
    operation_id="getRotation",
)
def get_rotation(request: HttpRequest, rotation_id: UUID, query: Query[WaitQuery]) -> HttpResponse:
    """Return one rotation with its dependents. With `wait`, answer once it has changed.

    It waits as a request does: see `getRequest`. A proof that says the same at a
    later moment is no change.
    """
    first = _tag(_read(request, rotation_id))
    known = request.headers.get("If-None-Match")

    def is_news(row: rotation_shapes.Rotation) -> bool:
        return not pages.has(request, _tag(row)) if known else _tag(row) != first

    found = waiting.until(
        lambda: _read(request, rotation_id),
        is_news,
        whose=caller(request).label,
        wait_s=query.wait,
    )
    response = _answer(request, found)
    if query.wait and not is_news(found):
        response["Retry-After"] = str(waiting.AGAIN_S)
    return response


@router.post(
    "/rotations/{uuid:rotation_id}/confirm",
    response=rotation_shapes.Rotation,
    operation_id="confirmVersion",
)
def confirm_version(request: HttpRequest, rotation_id: UUID, body: Confirm) -> HttpResponse:
    """Take the word of a dependent: it counts from that agent's own token and from no other."""
    principal, now = caller(request), timezone.now()
    _seen(principal, rotation_id, now=now)
    if principal.agent_id is None:
        raise Problem(
            "forbidden",
            "Only the agent that uses the key says what it has loaded. A person confirms for a "
            "place that is looked after by hand, on the page of the rotation.",
        )
    reports.confirm(
        rotation_id=rotation_id,
        agent_id=principal.agent_id,
        number=body.version,
        is_healthy=body.healthy,
        now=now,
    )
    return _answer(request, _read(request, rotation_id))


def may_rotate(principal: Principal, row: Key) -> bool:
    """Say whether the caller may have a key rotated; an agent may what its owner may."""
    return ROTATE in access.permissions(asking.on_behalf(principal), row)


def _require_rotate(principal: Principal, row: Key) -> None:
    if not may_rotate(principal, row):
        whose = "The owner of the agent" if principal.agent else "You"
        raise Problem("forbidden", f"{whose} may not have {row.name} rotated.")


def _triggered(
    principal: Principal, row: Key, body: StartRotation, *, now: datetime
) -> tuple[Request, bool]:
    """Return the request of this trigger and whether it was made now. Raises Problem."""
    deploy_id = body.deploy_id.strip()
    before = rotate_key.of_deployment(row.pk, deploy_id)
    if before is not None:
        return before, False
    ask = asks.RotateKey(
        kind="key.rotate",
        key=row.name,
        trigger=body.reason,
        deploy_id=deploy_id,
        reason=body.comment.strip() or _COMMENTS[body.reason],
        ticket=body.ticket,
    )
    try:
        return asking.ask(principal, ask, now=now), True
    except (rotate_key.NotRotatable, about_keys.AlreadyAsked) as error:
        # The same deployment may have been faster since the look.
        twin = rotate_key.of_deployment(row.pk, deploy_id)
        if twin is None:
            raise _busy(principal, row, body.reason, error) from error
        return twin, False


def _busy(principal: Principal, row: Key, trigger: str, error: Exception) -> Exception:
    """Lead to the rotation that stands in the way; a request that does is led to by its own.

    A person's incident is led to the batch that has this rotation wait less.
    """
    running = selectors.open_of(row.pk)
    if running is None:
        return error
    is_incident = trigger == "incident" and principal.agent is None
    follow = rotation_shapes.way_out(running, is_incident=is_incident)
    return Problem("conflict", str(error), next_action=follow)


def _of_request(key_id: UUID, request_id: UUID) -> Rotation | None:
    """Return the rotation that a request began, or the open one that it covers."""
    begun = selectors.by_request(request_id)
    if begun is not None:
        return selectors.by_id(begun)
    running = selectors.open_of(key_id)
    return running if running is not None and running.request_id == request_id else None


def _started(
    principal: Principal, made: Request, rotation: Rotation | None, *, status: int
) -> HttpResponse:
    try:
        shown = shapes.request(requests.request_of(principal, made.pk), None)
    except NotVisible:
        # Another holder asked it, for the same deployment.
        shown = None
    told = rotation_shapes.Started(
        request=shown, rotation=_shape(principal, rotation) if rotation else None
    )
    response = HttpResponse(told.model_dump_json(), status=status, content_type="application/json")
    where = f"rotations/{rotation.pk}" if rotation else f"requests/{made.pk}"
    response["Location"] = f"/api/v1/{where}"
    return response


def _seen(principal: Principal, rotation_id: UUID, *, now: datetime) -> Rotation:
    """Return a rotation of a key that the caller may see. Raises NotVisible, with no key's name."""
    found = selectors.by_id(rotation_id)
    try:
        key_of(principal, found.key.name, now=now)
    except NotVisible:
        raise NotVisible(f"rotation {rotation_id}") from None
    return found


def _read(request: HttpRequest, rotation_id: UUID) -> rotation_shapes.Rotation:
    """Return a rotation after looking again whether the token still holds."""
    now = timezone.now()
    principal = principals.of(request, now=now)
    return _shape(principal, _seen(principal, rotation_id, now=now))


def _shape(principal: Principal, row: Rotation) -> rotation_shapes.Rotation:
    may_choose = principal.agent is None and may_rotate(principal, row.key)
    return rotation_shapes.rotation(row, agent_id=principal.agent_id, may_choose=may_choose)


def _tag(row: rotation_shapes.Rotation) -> str:
    """Return what differs once anything has changed but the moment of a proof."""
    told = row.model_dump_json(exclude={"dependents": {"__all__": {"proof": {"at"}}}})
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


def _answer(request: HttpRequest, row: rotation_shapes.Rotation) -> HttpResponse:
    tag = {"ETag": f"W/{_tag(row)}"}
    if pages.has(request, _tag(row)):
        return HttpResponse(status=304, headers=tag)
    return HttpResponse(row.model_dump_json(), content_type="application/json", headers=tag)
