"""The overview: what needs this person, the keys they may see, and the state of the ledger.

Everybody gets the same blocks under the same address; their role orders them.
A block whose figures cannot be read says so, and the others stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals import selectors as approvals
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.web import fleet, system, work
from keyvault.web.known import known

if TYPE_CHECKING:
    from keyvault.accounts.models import User

_NEEDS, _FLEET, _DAYS, _LEDGER = "needs", "fleet", "days", "ledger"
_LENSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("auditors", (_LEDGER, _NEEDS, _FLEET, _DAYS)),
    ("administrators", (_NEEDS, _FLEET, _LEDGER, _DAYS)),
)
_DEFAULT = (_NEEDS, _FLEET, _DAYS)


@gates.signed_in
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """Show what needs this person, worst first."""
    person, now = sessions.person(request), timezone.now()
    blocks = lens(person)
    page = {
        "nav": "home",
        "now": now,
        "blocks": blocks,
        "needs": known("needs", lambda: work.needs(person, now=now)),
        "shown": work.SHOWN,
        "oldest": known("oldest request", approvals.oldest_pending_at),
        "fleet": known("fleet", lambda: fleet.fleet(person, now=now)),
        "ledger": known("ledger", lambda: system.ledger(now)) if _LEDGER in blocks else None,
    }
    return render(request, "keyvault/overview/overview.html", page)


def lens(person: User) -> tuple[str, ...]:
    """Return the order of blocks for the role of a person."""
    held = accounts.roles(person)
    return next((order for role, order in _LENSES if role in held), _DEFAULT)
