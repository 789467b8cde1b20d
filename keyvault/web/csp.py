"""Receive what browsers report about the content policy.

Anybody may post here, so nothing posted is kept as it came: only the name of
a directive out of a closed list and the host that was refused, at most
`PER_MINUTE` a minute and process, into the log and a short memory.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from urllib.parse import urlsplit

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from keyvault.accounts import gates

log = logging.getLogger(__name__)

PER_MINUTE = 10
KEPT = 20
MAX_BYTES = 8192
DIRECTIVES = frozenset(
    {
        "default-src",
        "script-src",
        "script-src-elem",
        "script-src-attr",
        "style-src",
        "style-src-elem",
        "style-src-attr",
        "img-src",
        "font-src",
        "connect-src",
        "form-action",
        "base-uri",
        "frame-ancestors",
        "require-trusted-types-for",
        "trusted-types",
    }
)


@dataclass(frozen=True, slots=True)
class Report:
    """One refusal: when it was reported, which directive, and what was refused."""

    at: datetime
    directive: str
    blocked: str


class Reports:
    """The last reports of this process, and the limit on taking them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._taken: deque[datetime] = deque(maxlen=PER_MINUTE)
        self._kept: deque[Report] = deque(maxlen=KEPT)

    def take(self, report: Report) -> bool:
        """Keep a report; say False, and keep nothing, when the minute is full."""
        with self._lock:
            full = len(self._taken) == PER_MINUTE
            if full and report.at - self._taken[0] < timedelta(minutes=1):
                return False
            self._taken.append(report.at)
            self._kept.append(report)
            return True

    def latest(self) -> list[Report]:
        """Return the reports kept, newest first."""
        with self._lock:
            return list(reversed(self._kept))


reports = Reports()


def parse(body: bytes, *, at: datetime) -> Report | None:
    """Return the report in a body, or None when it is not one."""
    try:
        found = json.loads(body)["csp-report"]
        directive = str(found.get("effective-directive") or found["violated-directive"])
        blocked = str(found.get("blocked-uri", ""))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if directive not in DIRECTIVES:
        return None
    return Report(at, directive, _origin(blocked))


def _origin(uri: str) -> str:
    """Return scheme and host, or the word that browsers send instead of an address."""
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
    except ValueError:
        return "unreadable"
    return f"{parts.scheme}://{host}"[:100] if host else uri.partition(":")[0][:40]


@gates.public
@csrf_exempt
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    """Take one report. The answer is the same whatever becomes of it."""
    size = int(request.META.get("CONTENT_LENGTH") or 0)
    report = parse(request.body, at=timezone.now()) if 0 < size <= MAX_BYTES else None
    if report and reports.take(report):
        log.warning("csp.refused: %s %s", report.directive, report.blocked)
    return HttpResponse(status=204)
