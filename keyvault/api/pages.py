"""Cursors of lists, and ETags: what a program needs to read a list to its end and to ask "since?"."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from django.core import signing
from django.http import HttpResponse, HttpResponseNotModified

from keyvault.api.problems import Problem

if TYPE_CHECKING:
    from django.http import HttpRequest
    from pydantic import BaseModel

LIMIT = 50
# Operations that change what the caller has seen, and nothing else when `If-Match` names it.
GUARDED = frozenset({"renameKey", "replaceDependents", "replaceLabels"})
# Operations whose body names the ETag of each thing that they change.
GUARDED_BY_BODY = frozenset({"changeKeys"})


def cursor(kind: str, mark: str | int) -> str:
    """Return a cursor behind `mark` in the list `kind`; it is signed, so that none is made up."""
    return signing.dumps(mark, salt=_salt(kind))


def mark(kind: str, text: str) -> str | int | None:
    """Return the mark of a cursor, or None for the first page. Raises Problem."""
    if not text:
        return None
    try:
        found = signing.loads(text, salt=_salt(kind))
    except (signing.BadSignature, ValueError):
        raise Problem("bad-query", "The cursor is not one of this list.") from None
    return found if isinstance(found, str | int) else None


def tagged(
    request: HttpRequest, found: BaseModel, *, settled: BaseModel | None = None
) -> HttpResponse:
    """Return an object with its ETag, or 304 when the caller has it already (RFC 9110 13.1.2)."""
    named = tag(found, settled=settled)
    if has(request, named):
        return HttpResponseNotModified(headers={"ETag": named})
    return told(found, settled=settled)


def told(found: BaseModel, *, status: int = 200, settled: BaseModel | None = None) -> HttpResponse:
    """Return an object as it is, after a change too, with its ETag."""
    return HttpResponse(
        found.model_dump_json(),
        status=status,
        content_type="application/json",
        headers={"ETag": tag(found, settled=settled)},
    )


def tag(found: BaseModel, *, settled: BaseModel | None = None) -> str:
    """Return the ETag of an object: what differs once anything in it does.

    `settled` is the part of it that callers change; the rest changes by itself, and
    keeps nobody from changing this part. Its digest stands first.
    """
    parts = [_digest(one) for one in (settled, found) if one is not None]
    return f'"{".".join(parts)}"'


def has(request: HttpRequest, name: str) -> bool:
    """Say whether the caller names this ETag as the one it has."""
    named = request.headers.get("If-None-Match", "")
    return name in {part.strip().removeprefix("W/") for part in named.split(",")}


def require(request: HttpRequest, found: BaseModel) -> None:
    """Refuse to change what is not as the caller has seen it (RFC 9110 13.1.1). Raises Problem.

    `found` is the object, or the settled part of it. A call without `If-Match` changes
    whatever there is. The caller holds a lock under which nobody else changes it.
    """
    named = request.headers.get("If-Match")
    if named is None or named.strip() == "*":
        return
    if not is_one_of(found, named):
        raise Problem("changed")


def is_one_of(found: BaseModel, named: str) -> bool:
    """Say whether an object, or the settled part of one, has one of the named ETags.

    They are digests of the content, so one that a proxy has made weak, because
    it compresses, says as much.
    """
    given = (part.strip().removeprefix("W/").strip('"') for part in named.split(","))
    return _digest(found) in {one.partition(".")[0] for one in given}


def _digest(found: BaseModel) -> str:
    return hashlib.sha256(found.model_dump_json().encode()).hexdigest()[:32]


def _salt(kind: str) -> str:
    return f"keyvault.api.{kind}.cursor"
