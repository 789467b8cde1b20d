"""How a change of a Connection reads to those who approve it."""

from __future__ import annotations

from collections.abc import Mapping

from approvals.ports import Change
from keyvault.connections import kinds, places, selectors
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection
from keyvault.dependents import selectors as dependents

EVERYWHERE, ADMINISTRATORS = "every environment", "administrators"
_SHOWN = 16


def changes(draft: Draft, *, before: Connection | None, fingerprint: str) -> tuple[Change, ...]:
    """Return every row of the plan. The credential shows as a keyed fingerprint, never itself."""
    was: Mapping[str, str] = before.config if before else {}
    settings = [
        Change(entry.label, was.get(entry.name, ""), draft.config.get(entry.name, ""))
        for entry in selectors.config_schema(draft.provider)
        if was.get(entry.name) or draft.config.get(entry.name)
    ]
    now_hosts = tuple(before.allowed_hosts) if before else ()
    warning = "Opens private addresses" if set(draft.allowed_hosts) - set(now_hosts) else ""
    return (
        Change("Title", before.title if before else "", draft.title),
        Change("Provider", before.provider if before else "", draft.provider),
        *settings,
        Change("Private addresses it may reach", now_hosts, draft.allowed_hosts, warning),
        Change("Environment", environment(before), draft.environment or EVERYWHERE),
        Change("Looked after by", team(before), draft.team or ADMINISTRATORS),
        *_cadence(before.renew_days if before else None, draft.renew_days),
        _credential(before, fingerprint),
    )


def _cadence(now: int | None, then: int) -> tuple[Change, ...]:
    if not now and not then:
        return ()
    words = [f"Every {days} days" if days else "By hand" for days in (now, then)]
    return (Change("Admin credential is renewed", *words),)


def breaks(draft: Draft, *, before: Connection | None) -> tuple[str, ...]:
    """Return what the change could disturb."""
    if before is None:
        return ("Nothing that works today changes: a Connection is added.",)
    if kinds.is_destination(draft.provider):
        return _places(draft, before)
    count = selectors.live_key_count(before.pk)
    if not count:
        return ("No key lives here.",)
    if places.leads_to(before) != places.server_of(draft.provider, draft.config):
        return (
            f"{_keys(count)} issued at {places.named(places.leads_to(before))}, which goes on without it.",
            "To revoke what was issued there, change the Connection back, or end it by hand.",
        )
    return (f"{_keys(count)} created and revoked through it from then on.",)


def work(draft: Draft) -> str:
    """Return what keyvault does through a Connection, in words."""
    if kinds.is_destination(draft.provider):
        return "write values of keys to places"
    return "create and revoke credentials"


def server(draft: Draft) -> str:
    """Return where a Connection leads, in one word."""
    return places.named({"provider": draft.provider, **draft.config})


def environment(before: Connection | None) -> str:
    """Return the environment of a Connection as plans name it; empty for a new one."""
    if before is None:
        return ""
    return before.environment.slug if before.environment else EVERYWHERE


def team(before: Connection | None) -> str:
    """Return who looks after a Connection as plans name it; empty for a new one."""
    if before is None:
        return ""
    return before.team.name if before.team else ADMINISTRATORS


def _places(draft: Draft, before: Connection) -> tuple[str, ...]:
    names = [f"{row.key.name} ({row.name})" for row in dependents.places_at(before.pk)]
    if not names:
        return ("No key is written there.",)
    if places.leads_to(before) != places.server_of(draft.provider, draft.config):
        former = places.named(places.leads_to(before))
        return (f"{', '.join(names)}: written to the new server; what lies at {former} stays.",)
    return (f"{', '.join(names)}: written through it from then on.",)


def _keys(count: int) -> str:
    return "1 live key is" if count == 1 else f"{count} live keys are"


def _credential(before: Connection | None, fingerprint: str) -> Change:
    held = before.credential_fingerprint if before else ""
    then = fingerprint or held
    warning = "New credential" if fingerprint and fingerprint != held else ""
    return Change(
        "Admin credential (fingerprint)",
        shown(held),
        shown(then),
        warning,
    )


def shown(fingerprint: str) -> str:
    """Return so much of a fingerprint as people compare."""
    return fingerprint[:_SHOWN] or "none"
