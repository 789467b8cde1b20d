"""What approvers read of a revocation: what ends where, what a person must end, and who used the key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from approvals.ports import RiskPoint
from keyvault.connections import minting, places
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.leases import selectors as leases
from keyvault.usage import selectors as usage

if TYPE_CHECKING:
    from keyvault.vault.models import Version


def place(key: Key) -> str:
    """Return where the key is kept, as approvers read it."""
    return f"{key.connection.title} ({key.connection.slug})"


def label(version: Version, key: Key) -> str:
    """Return a version by its number and id, and its server where that is another one."""
    named = f"v{version.number}: {places.id_of(version)}"
    if places.is_within_reach(version, key.connection):
        return named
    return f"{named}, issued at {places.named(version.server)}"


def by_hand(live: Sequence[Version], key: Key) -> tuple[str, ...]:
    """Say what no call can end, because the Connection was led elsewhere or its id is not known."""
    return tuple(
        f"{_why_by_hand(version, key)}: a person must end it there and confirm."
        for version in live
        if not places.is_within_reach(version, key.connection)
    )


def _why_by_hand(version: Version, key: Key) -> str:
    server = places.named(version.server)
    if version.is_nameless:
        return f"v{version.number} was adopted, and its id at {server} is not known"
    return (
        f"v{version.number} was issued at {server}, where {key.connection.title} does not lead "
        "any more"
    )


def unreported(key: Key) -> tuple[str, ...]:
    """Say of which use nothing can be known.

    Who used the key lately is a risk and no part of the plan: it is counted anew
    for whoever looks, and a first reader takes no signature back.
    """
    if key.delivery_mode != DeliveryMode.REVEAL:
        return ()
    return ("Its value is read by hand: use that nobody reports is not known here.",)


def use(key: Key) -> RiskPoint:
    """Return who used the key lately, as a risk."""
    names = _users(key)
    if names:
        return RiskPoint(20, "In use", f"{_listed(names)} used it in the last 30 days.")
    text = "No use in the last 30 days is known; what is not reported is not seen."
    return RiskPoint(10, "Users unknown", text)


def _users(key: Key) -> Sequence[str]:
    """Return who used a key lately; whoever took a lease of one that is lent."""
    used = usage.users_lately(key.pk)
    if not minting.mints(key.connection):
        return used
    return sorted({*used, *leases.holders_lately(key.pk)})


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def sessions(*, kill: bool) -> str:
    """Return what becomes of open sessions."""
    return "are ended, where the provider can" if kill else "stay open"


def ending(key: Key, number: int) -> str:
    """Say what stops working: leases come and go while people read, so they are not counted."""
    if minting.mints(key.connection):
        return "no lease is given any more, and every open one is ended"
    return f"{_count(number)} stop working"


def _count(number: int) -> str:
    return "1 version" if number == 1 else f"{number} versions"
