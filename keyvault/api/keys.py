"""Keys and their versions: metadata only, for persons by their rights and for agents by grants."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel, Field

from approvals.ports import NotVisible
from keyvault.agents import next_actions, reach
from keyvault.api import pages, schemas, shapes
from keyvault.api.principals import Principal, caller
from keyvault.api.refusals import Unreachable
from keyvault.inventory import access, naming, selectors
from keyvault.inventory.selectors import Filters
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from keyvault.inventory.models import Key

router = Router(tags=["keys"])
USE, VIEW = "use", "view"
Word = Annotated[str, Field(max_length=120)]


class KeysQuery(BaseModel):
    """How a list of keys is narrowed; the names and values are those of the console's list."""

    q: Word = ""
    state: Word = ""
    environment: Word = ""
    provider: Word = ""
    connection: Word = ""
    team: Word = ""
    owner: Word = ""
    due: Word = ""
    label: Word = ""
    sort: Word = "name"
    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.get("/keys", response=schemas.KeyList, operation_id="listKeys")
def list_keys(request: HttpRequest, query: Query[KeysQuery]) -> schemas.KeyList:
    """List the keys that the caller may see, by name or by expiry."""
    principal, now = caller(request), timezone.now()
    given = query.model_dump(exclude={"cursor", "limit"}, exclude_defaults=True)
    page = selectors.keys_after(
        _visible(principal, now=now),
        Filters.parse(given),
        person=principal.token.user,
        now=now,
        after=query.cursor,
        limit=query.limit,
    )
    items = [told(principal, row) for row in page.rows]
    return schemas.KeyList(items=items, next_cursor=page.after or None)


@router.get("/keys/{str:name}", response=schemas.Key, operation_id="getKey")
def get_key(request: HttpRequest, name: str) -> HttpResponse:
    """Return one key, with an ETag."""
    principal = caller(request)
    row = key_of(principal, name, now=timezone.now())
    return pages.tagged(request, told(principal, row))


class VersionsQuery(BaseModel):
    """How far a list of versions goes."""

    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.get("/keys/{str:name}/versions", response=schemas.VersionList, operation_id="listVersions")
def list_versions(
    request: HttpRequest, name: str, query: Query[VersionsQuery]
) -> schemas.VersionList:
    """List the versions of a key, newest first. No value is among what is said of them."""
    row = key_of(caller(request), name, now=timezone.now())
    mark = pages.mark("versions", query.cursor)
    found = [one for one in versions.versions(row.pk) if mark is None or one.number < int(mark)]
    shown = found[: query.limit]
    more = len(found) > len(shown)
    return schemas.VersionList(
        items=[shapes.version(one) for one in shown],
        next_cursor=pages.cursor("versions", shown[-1].number) if more else None,
    )


def _visible(principal: Principal, *, now: datetime) -> QuerySet[Key]:
    """Return the keys that the caller may see; a narrowed token sees no more than it names."""
    token = principal.token
    if token.user is None:
        return reach.granted_keys(token, now=now)
    keys = access.visible_keys(token.user)
    return keys if token.keys is None else keys.filter(name__in=token.keys)


def key_of(principal: Principal, text: str, *, now: datetime) -> Key:
    """Return one key that the caller may see. Raises naming.BadName, Unreachable."""
    name, agent = naming.key_name(text), principal.agent
    try:
        return _reached(principal, name, now=now)
    except NotVisible as hidden:
        follow = next_actions.ask_for_grant(name, agent=agent.name) if agent else next_actions.LOOK
        raise Unreachable(follow) from hidden


def told(principal: Principal, row: Key) -> schemas.Key:
    """Return the facts of a key as the caller is told them."""
    return shapes.key(row, _permissions(principal, row))


def _reached(principal: Principal, name: str, *, now: datetime) -> Key:
    token = principal.token
    if token.agent is not None:
        return reach.access_granted(token, name, now=now)
    if token.keys is not None and name not in token.keys:
        raise NotVisible(f"key {name}")
    return access.access_key(principal.person, name, VIEW)


def _permissions(principal: Principal, row: Key) -> frozenset[str]:
    if principal.agent is not None:
        return frozenset({USE})
    return access.permissions(principal.person, row)
