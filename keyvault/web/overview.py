"""The overview: what needs this person, the keys they may see, and the state of the ledger.

Everybody gets the same blocks under the same address; their role orders them.
A block whose figures cannot be read says so, and the others stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from approvals import selectors as approvals
from keyvault.accounts import gates, notices, sessions
from keyvault.accounts import selectors as accounts
from keyvault.web import fleet, system, work
from keyvault.web.known import known

if TYPE_CHECKING:
    from approvals.models import Request
    from keyvault.accounts.models import User

_NEEDS, _MINE, _FLEET, _LEDGER = "needs", "mine", "fleet", "ledger"
UNDER_WAY = 5


@dataclass(frozen=True, slots=True)
class Lens:
    """The blocks of the wide and of the narrow column, in the order in which a role reads."""

    wide: tuple[str, ...]
    narrow: tuple[str, ...]

    def __contains__(self, block: str) -> bool:
        """Say whether a block is shown at all."""
        return block in self.wide + self.narrow


_LENSES = (
    ("auditors", Lens((_LEDGER, _NEEDS), (_FLEET,))),
    ("administrators", Lens((_NEEDS, _MINE), (_FLEET, _LEDGER))),
)
_DEFAULT = Lens((_NEEDS, _MINE), (_FLEET,))


@gates.signed_in
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """Show what needs this person, worst first."""
    person, now = sessions.person(request), timezone.now()
    order = lens(person)
    page = {
        "nav": "home",
        "now": now,
        "lens": order,
        "notices": known("notices", lambda: notices.recent(person, now=now)),
        "needs": known("needs", lambda: work.needs(person, now=now)),
        "shown": work.SHOWN,
        "oldest": known("oldest request", approvals.oldest_pending_at),
        "fleet": known("fleet", lambda: fleet.fleet(person, now=now)),
        "ledger": known("ledger", lambda: system.ledger(now)) if _LEDGER in order else None,
        "mine": known("under way", lambda: under_way(person)) if _MINE in order else None,
    }
    return render(request, "keyvault/overview/overview.html", page)


def under_way(person: User) -> list[Request]:
    """Return what this person asked for and what is not decided or done yet."""
    return list(approvals.mine(person).filter(ended_at=None)[:UNDER_WAY])


def lens(person: User) -> Lens:
    """Return the order of blocks for the role of a person."""
    held = accounts.roles(person)
    return next((order for role, order in _LENSES if role in held), _DEFAULT)
