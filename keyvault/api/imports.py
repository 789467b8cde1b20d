"""Existing keys from files and other vaults: one request for each owner, and no value back.

The one address that takes values. A body is judged, sealed and forgotten: it is
not remembered for repeating, since bringing the same values again asks nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from ninja import Router
from pydantic import Field, SecretStr

from keyvault.actions import adopt_keys, new_adoption
from keyvault.actions.adopt_keys import Asked
from keyvault.actions.new_adoption import Fault, Found
from keyvault.api import asking, asks, schemas, shapes
from keyvault.api.principals import caller
from keyvault.inventory import naming

router = Router(tags=["imports"])
CREATED, KNOWN = 201, 200


class ImportedKey(asks.Declared):
    """One key that exists already, with its value.

    `owner`: a user name, the caller's where it is empty. `remote_id`: its id at the
    provider, which the last look there has seen.
    """

    value: Annotated[SecretStr, Field(strict=False, max_length=new_adoption.MOST_BYTES)]
    owner: Annotated[str, Field(max_length=150)] = ""
    remote_id: Annotated[str, Field(max_length=300)] = ""


class Import(schemas.In):
    """Keys that are to be taken into the inventory."""

    keys: Annotated[list[ImportedKey], Field(min_length=1, max_length=new_adoption.MOST)]
    reason: schemas.Reason
    ticket: schemas.Ticket = ""


class ImportRequest(schemas.Out):
    """One request that was opened: for one owner, with the names of the keys."""

    id: UUID
    label: str
    state: str
    owner: str
    page: str
    keys: list[str]


class Duplicate(schemas.Out):
    """A value that is no new one. `of`: the key that holds it, where the caller may see it."""

    name: str
    why: Literal["in_file", "known", "asked"]
    of: str


class Imported(schemas.Out):
    """What became of all of them."""

    requests: list[ImportRequest]
    duplicates: list[Duplicate]


@router.post("/imports", response={CREATED: Imported, KNOWN: Imported}, operation_id="importKeys")
def import_keys(request: HttpRequest, body: Import) -> HttpResponse:
    """Ask to adopt existing keys: one request for each owner. People only.

    201 when something was asked; 200 when every value is known already. A fault of
    one key refuses all of them. Nothing is changed at any provider, now or later.
    """
    imported = adopt_keys.ask(
        person=caller(request).person,
        found=_found(body),
        reason=body.reason,
        ticket=body.ticket,
        now=timezone.now(),
    )
    shown = Imported(
        requests=[_request(one) for one in imported.asked],
        duplicates=[Duplicate.model_validate(one) for one in imported.duplicates],
    )
    status = CREATED if shown.requests else KNOWN
    return HttpResponse(shown.model_dump_json(), status=status, content_type="application/json")


@sensitive_variables()
def _found(body: Import) -> list[Found]:
    """Return what was brought, with every name in its one form. Raises BadAdoption."""
    found, faults = [], []
    more = {"value", "owner", "remote_id"}
    for at, one in enumerate(body.keys):
        asked = asks.Declared(**one.model_dump(exclude=more))
        try:
            declared = asking.declaration(asked, reason=body.reason)
        except naming.BadName as error:
            faults.append(Fault(at, _field(asked), str(error)))
            continue
        value = one.value.get_secret_value()
        found.append(Found(declared, value, owner=one.owner, remote_id=one.remote_id))
    if faults:
        raise new_adoption.BadAdoption(faults)
    return found


def _field(asked: asks.Declared) -> str:
    """Return which of the names of a key cannot be used."""
    try:
        naming.key_name(asked.name)
    except naming.BadName:
        return "name"
    try:
        naming.labels("\n".join(asked.labels))
    except naming.BadName:
        return "labels"
    return "allowed_hosts"


def _request(asked: Asked) -> ImportRequest:
    row = asked.request
    return ImportRequest(
        id=row.pk,
        label=row.label,
        state=row.state,
        owner=asked.owner.username,
        page=shapes.request(row, None).page,
        keys=list(asked.names),
    )
