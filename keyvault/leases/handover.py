"""What came of a mint: the value goes to whoever asked, or what was made is left to end.

Between the call and this the agent's right may have gone, or the sweep given the lease up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction

from approvals.ports import NotVisible
from keyvault.agents import reach, tokens
from keyvault.agents.models import AccessToken
from keyvault.connections import minting
from keyvault.connections.minting import Minted, NotMinted
from keyvault.leases import endings, selectors
from keyvault.leases.models import Lease, LeaseState
from keyvault.usage import rollups
from keyvault.usage.models import UsageKind
from keyvault.usage.rollups import Place, Tally

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret


@dataclass(frozen=True, slots=True)
class Lent:
    """A lease with the value, which is here this once."""

    lease: Lease
    public: Mapping[str, str]
    material: Mapping[str, Secret] = field(repr=False)


def give_up(row: Lease, error: NotMinted, *, now: datetime) -> None:
    """Note how a mint failed; what the provider may have made is left to end by itself."""
    with transaction.atomic(durable=True):
        fresh = selectors.lock(row.pk)
        if fresh.state != LeaseState.MINTING:
            return
        if error.is_lost:
            endings.orphan(fresh, code=error.code, sentence=error.sentence, now=now)
            return
        fresh.state, fresh.cause, fresh.ended_at = LeaseState.FAILED, error.sentence[:300], now
        fresh.save(update_fields=["state", "cause", "ended_at"])
        fields = {"code": error.code, "sentence": error.sentence}
        endings.record(
            "lease.failed",
            fresh,
            actor=fresh.agent.as_actor,
            now=now,
            fields=fields,
            outcome="error",
        )


def hand_over(row: Lease, minted: Minted, *, token: AccessToken, now: datetime) -> Lent:
    """Seal what ends the credential and open the lease, if it may still be had.

    Otherwise its end is promised in place of that, and the value goes to nobody.
    now: when the provider had answered. Raises NotVisible, NotMinted, BadToken.
    """
    issued = minted.issued
    with transaction.atomic(durable=True):
        fresh = selectors.lock(row.pk)
        mark = minting.keep(fresh.pk, issued, now=now)
        is_late = fresh.state != LeaseState.MINTING
        fresh.remote_id, fresh.remote = issued.remote_id[:300], issued.to_json()
        # A provider whose clock is slow must not make a lease that ends before it began.
        lapses_at = issued.expires_at or fresh.lapses_at
        fresh.lapses_at = max(lapses_at, fresh.created_at + timedelta(seconds=1))
        fresh.expires_at = min(fresh.expires_at, fresh.lapses_at)
        has_right = selectors.is_allowed(fresh.pk, now=now)
        if cause := _why_not(fresh, token, has_right=has_right, now=now):
            endings.promise(fresh, LeaseState.WITHDRAWN, cause=cause, actor=endings.WORKER, now=now)
        else:
            _open(fresh, minted, mark, now=now)
    if is_late:
        raise NotMinted("late", "The provider answered too late. What it made is ended.")
    if not has_right:
        raise NotVisible(f"key {fresh.key.name}")
    if cause:
        raise tokens.BadToken
    return Lent(fresh, issued.public, issued.material)


def _why_not(row: Lease, token: AccessToken, *, has_right: bool, now: datetime) -> str:
    """Say why a locked lease is not handed over to whoever asked; nothing where it is."""
    if row.state != LeaseState.MINTING:
        return "It came too late."
    if not has_right:
        return selectors.why_not(row)
    return "" if reach.holds_still(token, now=now) else "The token that asked for it has ended."


def _open(row: Lease, minted: Minted, mark: str, *, now: datetime) -> None:
    row.state, row.taken_at = LeaseState.OPEN, now
    row.save()
    place = Place(row.key_id, rollups.hour_of(now), row.agent_id, None, "", UsageKind.LEASE)
    rollups.add([Tally(place, 1, now)])
    fields: dict[str, Any] = {
        "remote_id": row.remote_id,
        "fields": sorted(minted.issued.material),
        "digest": mark,
        "provider": minted.provider,
        "expires_at": row.expires_at.isoformat(),
        "lapses_at": row.lapses_at.isoformat(),
    }
    endings.record("lease.taken", row, actor=row.agent.as_actor, now=now, fields=fields)
