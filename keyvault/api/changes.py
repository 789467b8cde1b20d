"""Change what was declared about keys: a title at once, everything that policies read by approval.

Whoever keeps keys as code says how each was seen, by its ETag: what somebody
else has changed meanwhile is refused and never written over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router
from pydantic import Field

from approvals.ports import NotVisible
from keyvault.actions import change_key, change_keys
from keyvault.api import asking, asks, keys, pages, requests, schemas, shapes
from keyvault.api.principals import Principal, caller
from keyvault.api.problems import Fault, Problem
from keyvault.api.requests import CREATED
from keyvault.inventory import access, naming

if TYPE_CHECKING:
    from approvals.models import Request
    from keyvault.inventory.models import Key

router = Router(tags=["keys"])
ACCEPTED = 202
MANAGE = "manage"
_EXAMPLE = [
    {"key": "openai-web", "labels": ["customer-data"], "etag": '"5f0c8e"'},
    {"key": "openai-batch", "volume_per_day": 50_000},
]
_UNKNOWN = "There is no key of this name that you may have changed."


class NewTitle(schemas.In):
    """What people shall call a key; its name never changes."""

    title: Annotated[str, Field(min_length=1, max_length=120)]


class Labels(schemas.Out):
    """The labels of a key, sorted."""

    labels: list[str]


class DeclaredLabels(schemas.In):
    """All labels that a key shall have, and why, for those who decide."""

    labels: Annotated[
        list[str], Field(max_length=schemas.MOST_LABELS, examples=[["customer-data", "orders"]])
    ]
    reason: schemas.Reason
    ticket: schemas.Ticket = ""


class AskedLabels(schemas.Out):
    """The labels as they are now, and the request that will change them; null when nothing changes."""

    labels: list[str]
    request: schemas.Request | None


class ChangedKey(asks.ChangedUse):
    """What shall hold for one key, and how it was seen: `etag` is the one of `getKey`."""

    key: schemas.Name
    etag: Annotated[str, Field(max_length=80)] = ""


class ChangeKeys(schemas.In):
    """What shall hold for up to 200 keys: all of it, or none."""

    keys: Annotated[
        list[ChangedKey],
        Field(min_length=1, max_length=change_keys.MOST, examples=[_EXAMPLE]),
    ]
    reason: schemas.Reason
    ticket: schemas.Ticket = ""


# One address belongs to one router: this is the address of `getKey`.
@keys.router.patch("/keys/{str:name}", response=schemas.Key, operation_id="renameKey")
def rename_key(request: HttpRequest, name: str, body: NewTitle) -> HttpResponse:
    """Give a key another title, at once. People only, who may have the key changed.

    With `If-Match` only while the key is as it was read.
    """
    principal, now = caller(request), timezone.now()
    row = _changeable(principal, name, now=now)
    title = body.title.strip()
    if not title:
        raise Problem("invalid", errors=[Fault("A key has a title.", "/title")])
    renamed = change_key.rename(
        person=principal.person,
        name=row.name,
        title=title,
        now=now,
        require=lambda: pages.require(request, _told(principal, row.name, now=now)),
    )
    # As it was under the lock: the ETag of what others have changed since would let it be written over.
    return pages.told(keys.told(principal, renamed))


@router.get("/keys/{str:name}/labels", response=Labels, operation_id="getLabels")
def get_labels(request: HttpRequest, name: str) -> HttpResponse:
    """Return the labels of a key, with an ETag."""
    row = keys.key_of(caller(request), name, now=timezone.now())
    return pages.tagged(request, Labels(labels=row.labels))


@router.put(
    "/keys/{str:name}/labels",
    response={200: AskedLabels, ACCEPTED: AskedLabels},
    operation_id="replaceLabels",
)
def replace_labels(request: HttpRequest, name: str, body: DeclaredLabels) -> HttpResponse:
    """Ask that a key has these labels and no others: policies match on labels, so policy decides.

    200 when it has them already. The same again leads to the request that waits.
    With `If-Match` only while the labels are those that were read.
    """
    principal, now = caller(request), timezone.now()
    row = _changeable(principal, name, now=now)
    labels = asking.labels("\n".join(body.labels))
    wanted = change_keys.Wanted(
        row.name,
        {"labels": labels},
        lambda key: pages.require(request, Labels(labels=key.labels)),
    )
    said = {"reason": body.reason, "ticket": body.ticket}
    try:
        asked = asking.change(principal, wanted, **said, now=now).request
    except change_key.NothingToChange:
        return _labelled(labels, None)
    answer = _labelled(row.labels, shapes.request(requests.request_of(principal, asked.pk), None))
    answer["Location"] = f"/api/v1/requests/{asked.pk}"
    return answer


@router.post(
    "/changes",
    response={200: schemas.Request, CREATED: schemas.Request},
    operation_id="changeKeys",
)
def change_many(request: HttpRequest, body: ChangeKeys) -> HttpResponse:
    """Ask that other things hold for up to 200 keys, by one request. People only.

    200 when the caller's own open request asks exactly this already.
    """
    principal, now = caller(request), timezone.now()
    person = principal.person
    asked = change_keys.ask(
        person=person,
        wanted=_wanted(principal, body, now=now),
        reason=body.reason,
        ticket=body.ticket,
        now=now,
    )
    return _answer(principal, asked.request, status=CREATED if asked.is_new else 200)


def _labelled(labels: Sequence[str], request: schemas.Request | None) -> HttpResponse:
    """Return the labels as they are, with the ETag of `getLabels`, and what was asked."""
    answer = pages.told(
        AskedLabels(labels=list(labels), request=request), status=ACCEPTED if request else 200
    )
    answer["ETag"] = pages.tag(Labels(labels=list(labels)))
    return answer


def _changeable(principal: Principal, name: str, *, now: datetime) -> Key:
    """Return a key that the caller, or the owner of the agent that calls, may have changed.

    Raises Problem, and what `keys.key_of` raises.
    """
    row = keys.key_of(principal, name, now=now)
    if MANAGE not in access.permissions(asking.on_behalf(principal), row):
        whose = "The owner of the agent" if principal.agent else "You"
        raise Problem("forbidden", f"{whose} may not have {row.name} changed.")
    return row


def _wanted(principal: Principal, body: ChangeKeys, *, now: datetime) -> list[change_keys.Wanted]:
    """Return what is wanted of each key. Raises Problem with a fault for each that cannot be."""
    found, faults = [], []
    names: set[str] = set()
    for at, one in enumerate(body.keys):
        fault = ""
        try:
            row = _managed(principal, one.key)
            fault = "The key stands there twice." if row.name in names else ""
            names.add(row.name)
            require = _seen(principal, one.etag, at=at, now=now)
            found.append(change_keys.Wanted(row.name, asking.changed(one), require))
        except naming.BadName as error:
            fault = str(error)
        except NotVisible:
            fault = _UNKNOWN
        if fault:
            faults.append(Fault(fault, f"/keys/{at}/key"))
    if faults:
        raise Problem("invalid", errors=faults)
    return found


def _managed(principal: Principal, text: str) -> Key:
    """Return a key that the caller may have changed. Raises NotVisible, naming.BadName."""
    name = naming.key_name(text)
    if not asking.names(principal, name):
        raise NotVisible(f"key {name}")
    return access.access_key(principal.person, name, MANAGE)


def _seen(principal: Principal, etag: str, *, at: int, now: datetime) -> Callable[[Key], None]:
    """Return what refuses a key that is not as the caller has seen it, by its place in the list."""

    def require(key: Key) -> None:
        if etag and not pages.is_one_of(_told(principal, key.name, now=now), etag):
            fault = Fault(f"{key.name} has changed since.", f"/keys/{at}/etag")
            raise Problem("changed", errors=[fault])

    return require


def _told(principal: Principal, name: str, *, now: datetime) -> schemas.Key:
    """Return a key as `getKey` tells it to the caller."""
    return keys.told(principal, keys.key_of(principal, name, now=now))


def _answer(principal: Principal, row: Request, *, status: int) -> HttpResponse:
    told = requests.answer(principal, row.pk, status=status)
    told["Location"] = f"/api/v1/requests/{row.pk}"
    return told
