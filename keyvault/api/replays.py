"""Act once for one Idempotency-Key: the second time the first answer is given again.

Only a success is kept. What was refused, or broke before it had changed
anything, leaves the key free: the next try is judged anew. What went wrong
after a commit keeps the key: its first call never said how it ended, and
nobody acts a second time because of that. Unless the act itself says that
nobody holds anything of it (`let_go`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.db import transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from keyvault.api import commits
from keyvault.api.models import ApiReplay
from keyvault.api.problems import Problem

if TYPE_CHECKING:
    from django.http import HttpRequest

KEPT = timedelta(hours=24)
PROMPT = timedelta(minutes=2)
HEADER, MARK = "Idempotency-Key", "Idempotent-Replay"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_SWEPT = 200
_HEADERS = ("Content-Type", "Location", "ETag")


class Once(HttpResponse):
    """An answer with a value, which goes out once.

    `remembered` is what is kept of it and what whoever repeats the call gets: the same
    without the value.
    """

    def __init__(
        self, content: bytes, *, remembered: bytes, status: int, headers: dict[str, str]
    ) -> None:
        super().__init__(content, status=status, content_type="application/json", headers=headers)
        self["Cache-Control"] = "no-store"
        self.remembered = remembered


def once(
    request: HttpRequest, *, principal: str, now: datetime, act: Callable[[], HttpResponseBase]
) -> HttpResponseBase:
    """Run `act`, or give the answer that it gave before to the same key and body.

    A request without the header runs as it is. Raises Problem: the key has a
    wrong form, belongs to another body, or its first call is still under way.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return act()
    if not _KEY.fullmatch(key):
        raise Problem("bad-request", f"{HEADER} is 1 to 255 visible ASCII characters.")
    row, is_new = _claim(request, principal=principal, key=key, now=now)
    if not is_new:
        return _again(row, request, now=now)
    with commits.watched() as seen:
        try:
            response = act()
        except Exception as error:
            if seen.is_clean(error) or _is_let_go(request):
                row.delete()
            raise
    _settle(row, response, is_clean=not seen.has_committed or _is_let_go(request))
    return response


def let_go(request: HttpRequest) -> None:
    """Say of a call that is refused that nobody holds anything of it, whatever was written down.

    Its key is free then.
    """
    request.is_let_go = True  # type: ignore[attr-defined]


def _is_let_go(request: HttpRequest) -> bool:
    return getattr(request, "is_let_go", False)


def _claim(
    request: HttpRequest, *, principal: str, key: str, now: datetime
) -> tuple[ApiReplay, bool]:
    """Return the row of this key, and whether it was made now: of two callers one makes it."""
    with transaction.atomic(durable=True):
        _sweep(now)
        return ApiReplay.objects.get_or_create(
            principal=principal,
            route=f"{request.method} {request.path}"[:200],
            key=key,
            defaults={"body_digest": _digest(request), "created_at": now},
        )


def _sweep(now: datetime) -> None:
    """Delete some rows that are out of date: whoever adds one takes more away."""
    late = ApiReplay.objects.filter(created_at__lte=now - KEPT).order_by("created_at")
    late = late.select_for_update(skip_locked=True)
    ids = list(late.values_list("pk", flat=True)[:_SWEPT])
    ApiReplay.objects.filter(pk__in=ids).delete()


def _again(row: ApiReplay, request: HttpRequest, *, now: datetime) -> HttpResponse:
    if row.body_digest != _digest(request):
        raise Problem("key-reused")
    if row.status is None and now - row.created_at > PROMPT:
        raise Problem(
            "in-flight",
            f"The first call never said how it ended. List your {_made_at(request)} before you ask "
            "again with a new key.",
        )
    if row.status is None:
        raise Problem("in-flight", headers={"Retry-After": "1"})
    return HttpResponse(row.answer, status=row.status, headers={**row.headers, MARK: "true"})


def _made_at(request: HttpRequest) -> str:
    """Return what calls of an address make, as their list is called."""
    return "leases" if request.path.startswith("/api/v1/leases") else "requests"


def _settle(row: ApiReplay, response: HttpResponseBase, *, is_clean: bool) -> None:
    """Keep a success; free the key of a refusal that has changed nothing."""
    is_success = HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES
    if not is_success or not isinstance(response, HttpResponse):
        if is_clean:
            row.delete()
        return
    told = response.remembered if isinstance(response, Once) else response.content
    row.status, row.answer = response.status_code, told.decode()
    row.headers = {name: response[name] for name in _HEADERS if name in response}
    row.save(update_fields=["status", "answer", "headers"])


def _digest(request: HttpRequest) -> str:
    return hashlib.sha256(request.body).hexdigest()
