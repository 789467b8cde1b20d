"""The page that shows a value once, for a minute.

The value is written into one answer to one POST. It is never fetched by a
script, never cached and never in an address; without scripts the page leaves
by itself after a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods

from approvals import ports
from keyvault.accounts import gates, sessions
from keyvault.actions import reveal_secret
from keyvault.vault import reveals

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.actions.reveal_secret import Door

SHOWN_S = 60
GROUPED_MAX = 128
DOOR, SHOWN = "keyvault/keys/reveal.html", "keyvault/keys/revealed.html"
CONFLICT = 409


@dataclass(frozen=True, slots=True)
class Shown:
    """One field of a value as the page writes it. Never stored, never logged."""

    name: str
    value: str

    def __repr__(self) -> str:
        """Return the name only."""
        return f"Shown({self.name!r})"

    @property
    def parts(self) -> list[str]:
        """Return the value in groups of four to read aloud; text of several lines stays whole."""
        if len(self.value) > GROUPED_MAX or any(char.isspace() for char in self.value):
            return [self.value]
        return [self.value[at : at + 4] for at in range(0, len(self.value), 4)]


@gates.signed_in
@require_http_methods(["GET", "POST"])
def reveal(request: HttpRequest, name: str, number: int) -> HttpResponse:
    """Say how the version stands; on POST take a fresh factor and show the value once."""
    person, now = sessions.person(request), timezone.now()
    door = reveal_secret.door(person=person, name=name, number=number, now=now)
    if request.method == "GET" or door.request_id is None or door.version.revealed_at:
        status = 200 if request.method == "GET" else CONFLICT
        return _door(request, door, now=now, status=status)
    proof = ports.presence().ask(
        request,
        sentence=f"Reveal v{number} of {name}. It can be shown only this once.",
        digest=reveal_secret.act_digest(door, person=person),
        title="Reveal for 60 seconds",
    )
    if isinstance(proof, HttpResponse):
        return proof
    return _show(request, person, door, proof, now=now)


@sensitive_variables()
def _show(
    request: HttpRequest, person: User, door: Door, proof: ports.Proof, *, now: datetime
) -> HttpResponse:
    """Record, open and write the value. A lost race shows who was first."""
    try:
        opened = reveal_secret.reveal(person=person, found=door, proof_id=proof.id, now=now)
    except (reveals.AlreadyRevealed, reveals.NotRevealable, reveal_secret.NotRevealable):
        fresh = reveal_secret.door(
            person=person, name=door.key.name, number=door.version.number, now=now
        )
        return _door(request, fresh, now=now, status=CONFLICT)
    context = {
        "key": door.key,
        "number": opened.number,
        "now": now,
        "ends_at": now + timedelta(seconds=SHOWN_S),
        "seconds": SHOWN_S,
        "public": sorted(opened.public.items()),
        "fields": [_shown(field, secret) for field, secret in sorted(opened.material.items())],
        "nav": "keys",
    }
    response = render(request, SHOWN, context)
    back = reverse("key", args=[door.key.name])
    # Scripts clear the page earlier; this is for a browser that runs none.
    response["Refresh"] = f"{SHOWN_S}; url={back}"
    response["Cache-Control"] = "no-store, private"
    return response


def _shown(name: str, secret: Any) -> Shown:  # noqa: ANN401 - views do not import crypto.
    return Shown(name, secret.reveal().decode("utf-8", "backslashreplace"))


def _door(request: HttpRequest, door: Door, *, now: datetime, status: int) -> HttpResponse:
    context = {
        "key": door.key,
        "version": door.version,
        "request_id": door.request_id,
        "window_hours": int(reveal_secret.WINDOW.total_seconds() // 3600),
        "now": now,
        "nav": "keys",
    }
    return render(request, DOOR, context, status=status)
