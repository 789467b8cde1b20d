"""The people of the demo, on its own sign-in page: a demo on loopback, and nowhere else."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from keyvault.accounts import origin

CHOSEN = "demo_person"


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Whom the page offers, and what they are in the demo."""

    username: str
    roles: str


def listed(request: HttpRequest) -> list[DemoPerson]:
    """Return the people to offer; nobody outside a demo or beyond loopback."""
    return [
        DemoPerson(username=str(row["username"]), roles=", ".join(map(str, row.get("roles", ()))))
        for row in _rows(request)
    ]


def credentials(request: HttpRequest) -> dict[str, str] | None:
    """Return name and password of the person whose button was pressed, or None.

    The password goes the way of every other; the page never carries it.
    """
    chosen = request.POST.get(CHOSEN)
    for row in _rows(request) if chosen else ():
        if row["username"] == chosen:
            return {"username": str(row["username"]), "password": str(row["password"])}
    return None


def _rows(request: HttpRequest) -> list[dict[str, Any]]:
    if not settings.IS_DEMO or not _is_loopback(origin.address(request)):
        return []
    try:
        rows = json.loads((settings.DATA_DIR / "demo.json").read_text(encoding="utf-8"))["people"]
    except (OSError, ValueError, KeyError):
        return []
    return [row for row in rows if "username" in row and "password" in row]


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
