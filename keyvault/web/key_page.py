"""Gather what the pages of one key show, each part from the package that knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.urls import reverse

from approvals import selectors as approvals
from keyvault.actions import many_keys, reveal_secret
from keyvault.agents import selectors as agents
from keyvault.audit import selectors as ledger
from keyvault.connections import intake, minting
from keyvault.connections import selectors as connections
from keyvault.inventory import access, calendars, selectors
from keyvault.leases import selectors as leases
from keyvault.rotation import selectors as rotations
from keyvault.usage import loaded
from keyvault.vault import selectors as versions
from keyvault.web import dependents, geometry, lease_parts, usage_parts
from keyvault.web.history import items

if TYPE_CHECKING:
    from keyvault.accounts.models import User
    from keyvault.inventory.models import Key
    from keyvault.vault.models import Version

OVERVIEW, VERSIONS, USAGE, LEASES = "overview", "versions", "usage", "leases"
DEPENDENTS, ACCESS, HISTORY = "dependents", "access", "history"
HISTORY_LIMIT = 200
_TABS = (
    (OVERVIEW, "Overview"),
    (VERSIONS, "Versions"),
    (LEASES, "Leases"),
    (USAGE, "Usage"),
    (DEPENDENTS, "Dependents"),
    (ACCESS, "Access"),
    (HISTORY, "History"),
)


@dataclass(frozen=True, slots=True)
class Tab:
    """One section of a key, under its own address."""

    label: str
    href: str
    is_current: bool
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """How the current value stands towards being seen, and what this reader can do about it."""

    version: Version | None
    state: str
    request_id: Any = None


def page(person: User, name: str, *, tab: str, now: datetime) -> dict[str, Any]:
    """Return everything the page of a key shows. Raises NotVisible."""
    key = access.access_key(person, name, "view")
    found = versions.versions(key.pk)
    may, is_lent = access.permissions(person, key), minting.mints(key.connection)
    open_requests = approvals.open_for_subject("key", key.pk) + many_keys.asked(key.pk)
    return {
        "key": key,
        "nav": "keys",
        "now": now,
        "tab": tab,
        "tabs": tabs(key, tab, {VERSIONS: len(found)}, is_lent=is_lent),
        "is_lent": is_lent,
        "may": may,
        "marks": selectors.marks(key, now=now),
        "value_changes": calendars.words(key.cadence_days, key.calendar),
        "life": life(key, found, now=now),
        "versions": found,
        "current": next((row for row in found if row.state == "current"), None),
        "secret": secret(person, key, may, open_requests, now=now),
        "pending": [row for row in open_requests if _sees(person, row)],
        "options": _options(key),
        "rotation": rotations.open_of(key.pk),
        "by_hand": by_hand(key),
        "may_hand": may_hand(person, key),
        "gateway": settings.GATEWAY_URL,
        "variable": key.name.replace("-", "_").upper(),
        **_PARTS[tab](person, key, now),
    }


def tabs(key: Key, current: str, counts: Mapping[str, int], *, is_lent: bool) -> list[Tab]:
    """Return the sections of a key: it has versions or leases, and is shown with what it has."""
    left_out = {VERSIONS if is_lent else LEASES} - {current}
    if is_lent:
        counts = {LEASES: leases.living_count(key.pk)}
    return [
        Tab(label, _address(key, slug), slug == current, counts.get(slug))
        for slug, label in _TABS
        if slug not in left_out
    ]


def life(key: Key, found: Sequence[Version], *, now: datetime) -> geometry.Lifeline:
    """Return the key's life as a drawing."""
    drawn = [
        geometry.Version(
            row.number,
            row.promoted_at or row.created_at,
            row.revoked_at or row.destroyed_at,
            row.state,
        )
        for row in reversed(found)
    ]
    end = key.revoked_at or key.expires_at
    return geometry.lifeline(
        created=key.live_at or key.created_at, expires=end, versions=drawn, now=now
    )


def secret(
    person: User, key: Key, may: frozenset[str], open_requests: Sequence[Any], *, now: datetime
) -> Secret:
    """Return the state of the secret's card: none, seen, hidden, waiting, ready or askable."""
    version = versions.current(key.pk)
    if version is None:
        return Secret(None, "none")
    if version.revealed_at is not None:
        return Secret(version, "seen")
    if "reveal" not in may:
        return Secret(version, "hidden")
    waiting = [row for row in open_requests if row.kind == "secret.reveal"]
    if waiting:
        return Secret(version, "waiting", waiting[0].pk)
    permit = reveal_secret.permit(person=person, version=version, now=now)
    return Secret(version, "ready" if permit else "askable", permit)


def _address(key: Key, slug: str) -> str:
    return reverse("key" if slug == OVERVIEW else f"key-{slug}", args=[key.name])


def _sees(person: User, row: Any) -> bool:  # noqa: ANN401 - a request; views do not import tables.
    try:
        approvals.access_request(person, row.pk)
    except LookupError:
        return False
    return True


def _options(key: Key) -> list[tuple[str, str]]:
    fields = connections.options_schema(key.provider)
    return [(field.label, str(key.options.get(field.name, ""))) for field in fields]


def by_hand(key: Key) -> str:
    """Return what a person must do at the provider now: create, revoke or nothing."""
    if connections.awaits_intake(key.pk):
        return "create"
    return "revoke" if connections.awaits_confirmation(key.pk) else ""


def may_hand(person: User, key: Key) -> bool:
    """Say whether this person may do by hand what the key waits for."""
    try:
        intake.task(key=key, person=person)
    except LookupError:
        return False
    return True


def _access(person: User, key: Key, now: datetime) -> dict[str, Any]:
    grants = list(selectors.grant_history(key))
    return {
        "holders": selectors.holders(key, now=now),
        "grants": grants,
        "agents_seen": agents.names_seen(person, [row.agent_id for row in grants if row.agent_id]),
        "may_name_agents": _may_name_agents(person, key),
    }


def _may_name_agents(person: User, key: Key) -> bool:
    """Say whether a person could ask that some agent may use this key."""
    is_keeper = "manage" in access.permissions(person, key)
    return key.state == "live" and (is_keeper or agents.askable(person, is_keeper=False).exists())


def _history(_person: User, key: Key, _now: datetime) -> dict[str, Any]:
    lines = ledger.for_subject("key", key.pk, limit=HISTORY_LIMIT)
    return {"items": items(lines), "is_cut": len(lines) == HISTORY_LIMIT}


def _dependents(person: User, key: Key, now: datetime) -> dict[str, Any]:
    return {"dependents": dependents.rows(person, key, now=now)}


def _overview(person: User, key: Key, now: datetime) -> dict[str, Any]:
    found = {"use": usage_parts.card(key, now=now)}
    return found | (_leases(person, key, now) if minting.mints(key.connection) else {})


def _leases(person: User, key: Key, _now: datetime) -> dict[str, Any]:
    return {"leases": lease_parts.of_key(person, key), "leases_shown": leases.SHOWN}


def _usage(person: User, key: Key, now: datetime) -> dict[str, Any]:
    return usage_parts.of_key(person, key, now=now)


def _versions(_person: User, key: Key, _now: datetime) -> dict[str, Any]:
    return {"loaded": loaded.by_key(key.pk), "rotations": rotations.of_key(key.pk)}


_PARTS = {
    OVERVIEW: _overview,
    VERSIONS: _versions,
    LEASES: _leases,
    USAGE: _usage,
    DEPENDENTS: _dependents,
    ACCESS: _access,
    HISTORY: _history,
}
