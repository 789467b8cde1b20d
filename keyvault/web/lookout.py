"""What people should look at, with the page on which it is dealt with, for those whose work that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.urls import reverse

from keyvault.accounts import selectors as accounts
from keyvault.findings import selectors as findings
from keyvault.inventory import access
from keyvault.rotation import selectors as rotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyvault.accounts.models import User
    from keyvault.findings.models import Finding
    from keyvault.rotation.models import Rotation

WATCHERS = ("administrators", "responders", "auditors")
ROTATION, MISSED = "rotation", "missed"
MOST = 50


@dataclass(frozen=True, slots=True)
class Sight:
    """One open finding. `href` is "" where it has no page that this person may open."""

    finding: Finding
    href: str


def sights(person: User, limit: int = MOST) -> list[Sight]:
    """Return what is open, newest first; nothing for whose work it is not."""
    if not accounts.has_role(person, *WATCHERS):
        return []
    rows = findings.open_findings(limit)
    known = _rotations(person, rows)
    return [Sight(row, _way(known.get(row.detail))) for row in rows]


def decisions(person: User) -> list[Sight]:
    """Return the rotations that wait for a person, or were missed, where this person may decide."""
    rows = findings.of_kind(ROTATION)
    known = _rotations(person, rows)
    return _missed(person) + [
        Sight(row, _way(found))
        for row in rows
        if (found := known.get(row.detail)) and "rotate" in access.permissions(person, found.key)
    ]


def _missed(person: User) -> list[Sight]:
    """Return the missed rotations of keys that this person may have rotated, with their pages."""
    rows = {row.subject_id: row for row in findings.of_kind(MISSED)}
    if not rows:
        return []
    keys = access.rotatable_keys(person).filter(pk__in=list(rows))
    return [Sight(rows[str(key.pk)], reverse("key", args=[key.name])) for key in keys]


def _rotations(person: User, rows: Sequence[Finding]) -> dict[str, Rotation]:
    """Return those rotations among what was found whose keys this person sees, by their ids.

    A responder looks at every finding and sees no key by role.
    """
    wanted = [row.detail for row in rows if row.kind == ROTATION]
    if not wanted:
        return {}
    return {str(row.pk): row for row in rotations.rotations_for(person).filter(pk__in=wanted)}


def _way(found: Rotation | None) -> str:
    return reverse("rotation", args=[found.pk]) if found else ""
