"""What the frame around every page shows: navigation, counts and the trust strip.

Everything is computed on first use, so that fragments and plain pages pay
nothing. A part whose numbers cannot be read says "unknown"; it never says
that all is well.
"""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.urls import resolve, reverse
from django.utils import timezone

from approvals import selectors as approvals
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.web import parts, trust
from keyvault.web.known import known

if TYPE_CHECKING:
    from keyvault.accounts.models import User

HTMX = {
    "includeIndicatorStyles": False,
    "allowEval": False,
    "allowScriptTags": False,
    "selfRequestsOnly": True,
    # Snapshots of pages would put key metadata into the browser's storage.
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    "defaultSwapStyle": "outerHTML",
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "409|422", "swap": True, "error": False},
        {"code": ".*", "swap": False, "error": True},
    ],
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the navigation. `count` is None where it could not be read."""

    slug: str
    icon: str
    label: str
    href: str
    _: KW_ONLY
    counted: bool = False
    count: int | None = 0
    hot: bool = False


class Shell:
    """The frame of one page, for one person."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def signed_in(self) -> bool:
        """Say whether the person has passed both factors."""
        return hasattr(self._request, "user") and sessions.is_verified(self._request)

    @property
    def demo(self) -> bool:
        """Say whether this installation holds invented data."""
        return bool(settings.IS_DEMO)

    @property
    def htmx(self) -> str:
        """Return the configuration of htmx as JSON."""
        return json.dumps(HTMX)

    @property
    def host(self) -> str:
        """Return the name people know this installation by."""
        return str(settings.PUBLIC_HOST)

    @cached_property
    def person(self) -> User:
        """Return the person who is signed in; only asked where `signed_in` holds."""
        return cast("User", self._request.user)

    @cached_property
    def roles(self) -> frozenset[str]:
        """Return the roles that the person holds now, read once a page."""
        return accounts.roles(self.person)

    @property
    def initials(self) -> str:
        """Return the letters of the person's avatar."""
        return parts.face(self.person)["initials"]

    @cached_property
    def trust(self) -> list[trust.Line]:
        """Return the state of this installation itself, in three lines."""
        return trust.lines(timezone.now())

    @cached_property
    def groups(self) -> list[tuple[str, list[Entry]]]:
        """Return the navigation in its three groups, without what this person may not open."""
        if not self.signed_in:
            return []
        work, inventory, assurance = self._work(), self._inventory(), self._assurance()
        return [("", work), ("Inventory", inventory), ("Assurance", assurance)]

    @cached_property
    def tabs(self) -> list[Entry]:
        """Return the entries of the bar on phones; the rest is behind its last button."""
        return [entry for _, group in self.groups for entry in group if entry.slug in _TABS]

    def _work(self) -> list[Entry]:
        queue = known("approvals", lambda: approvals.queue_count(self.person))
        mine = known("requests", lambda: approvals.mine_count(self.person))
        inbox, requests = self._way("approvals"), self._way("requests")
        return _present(
            Entry("home", "home", "Overview", self._way("overview")),
            Entry("inbox", "inbox", "Approvals", inbox, counted=True, count=queue, hot=True),
            Entry("mine", "ask", "My requests", requests, counted=True, count=mine),
        )

    def _inventory(self) -> list[Entry]:
        return _present(
            Entry("keys", "key", "Keys", self._way("keys")),
            Entry("agents", "bot", "Agents", self._way("agents")),
            Entry("connections", "plug", "Connections", self._way("connections")),
            Entry("rotations", "rotate", "Rotations", self._way("rotations")),
        )

    def _assurance(self) -> list[Entry]:
        return _present(
            Entry("audit", "audit", "Audit log", self._way("audit")),
            Entry("people", "people", "People", self._way("people")),
            Entry("system", "pulse", "System", self._way("system")),
        )

    def _way(self, name: str) -> str:
        """Return the address of a page, or "" where its own gate is closed to this person."""
        href = reverse(name)
        gate = gates.of(resolve(href).func) or ""
        roles = gate.removeprefix(_ROLE).split(", ") if gate.startswith(_ROLE) else []
        return href if not roles or self.roles.intersection(roles) else ""


_ROLE = "role: "
_TABS = frozenset({"home", "inbox", "mine", "keys"})


def _present(*entries: Entry) -> list[Entry]:
    return [entry for entry in entries if entry.href]


def context(request: HttpRequest) -> dict[str, Any]:
    """Give every template the frame as `shell`; nothing is read until a page draws it."""
    return {"shell": Shell(request)}
