"""Take a lease, make it last longer, give it back: acts of an agent with its own token.

    write that we try -> mint -> seal and hand over

The arrows are transactions, the call stands between them. The value is handed to
whoever asked and to nobody else, once. What a crash leaves is ended by the sweep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import transaction

from approvals.ports import NotVisible, Unfinished
from keyvault.agents import reach
from keyvault.agents import selectors as rights
from keyvault.agents import services as agents
from keyvault.agents.models import AccessToken, Agent, AgentState
from keyvault.connections import minting, places
from keyvault.connections.minting import Minted, NotMinted
from keyvault.inventory.models import Key, KeyState
from keyvault.leases import endings, selectors, terms
from keyvault.leases.models import HELD, Lease, LeaseState
from keyvault.providers.base import Misconfigured
from keyvault.usage import rollups
from keyvault.usage.models import UsageKind
from keyvault.usage.rollups import Place, Tally

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

# Whoever gives a lease back ends it in the same breath; the job comes for what that could not.
_BACKSTOP = timedelta(seconds=30)


class NotLent(Exception):
    """Nothing can be minted for this key now. The message says why."""


class TooManyHeld(Exception):
    """The agent holds as many leases of this key as it may at once."""

    def __init__(self, agent: Agent, key: Key) -> None:
        super().__init__(
            f"{agent.name} holds {terms.MOST_HELD} leases of {key.name}, as many as it may. "
            "Return those that are done."
        )


class NotOpen(Exception):
    """The lease is not open, so that it cannot be made to last longer, or not yet returned."""


class NotRenewable(Exception):
    """The lease lasts as long as it can; carries the key of which a new one is taken."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(
            f"This lease cannot last beyond {lease.expires_at:%d %b %Y, %H:%M:%S} UTC. "
            "Take a new one before that."
        )
        self.key = lease.key.name


@dataclass(frozen=True, slots=True)
class Lent:
    """A lease with the value, which is here this once."""

    lease: Lease
    public: Mapping[str, str]
    material: Mapping[str, Secret] = field(repr=False)


def take(
    *,
    token: AccessToken,
    name: str,
    now: datetime,
    ttl_s: int = terms.USUAL_S,
    scopes: Sequence[str] = (),
) -> Lent:
    """Mint a credential of a key for one run of the token's agent. Outermost.

    ttl_s: seconds, 60 to 86400, cut to what the right, the key and the provider allow.
    `scopes`: some of what the key may do; none means all. Raises NotVisible (missing,
    forbidden and a person's token alike), NotLent, TooManyHeld, NotMinted.
    """
    row = _begin(token, name, ttl_s=ttl_s, scopes=scopes, now=now)
    try:
        minted = minting.mint(
            key=row.key,
            subject=row.pk.hex,
            scopes=row.scopes,
            ttl_s=max(int((row.expires_at - now).total_seconds()), 1),
            actor=row.agent.as_actor,
            now=now,
        )
    except NotMinted as error:
        _give_up(row, error, now=now)
        raise
    return _hand_over(row, minted, now=now)


def renew(
    *, token: AccessToken, lease_id: UUID, now: datetime, ttl_s: int = terms.USUAL_S
) -> Lease:
    """Let an open lease last `ttl_s` from now, as far as its credential lives. No call is made.

    One that lasts longer already is left as it is. Raises NotVisible, NotOpen, NotRenewable.
    """
    with transaction.atomic(durable=True):
        row = selectors.lock(selectors.own(token, lease_id).pk)
        if row.state != LeaseState.OPEN or row.expires_at <= now:
            raise NotOpen(f"This lease is {row.get_state_display().lower()}. Take a new one.")
        key = reach.access_granted(token, row.key.name, now=now)
        most = _most(row.agent, key, now=now, since=row.created_at, lapses_at=row.lapses_at)
        until = terms.earliest(now + timedelta(seconds=ttl_s), most)
        if most <= row.expires_at:
            raise NotRenewable(row)
        if until > row.expires_at:
            row.expires_at = until
            row.save(update_fields=["expires_at"])
            fields = {"expires_at": until.isoformat()}
            endings.record("lease.renewed", row, actor=row.agent.as_actor, now=now, fields=fields)
    return row


def give_back(*, token: AccessToken, lease_id: UUID, now: datetime) -> Lease:
    """Return a lease: its credential is ended at the provider at once. Idempotent.

    Where the provider does not answer the lease is left ending, and a job goes on.
    Raises NotVisible, NotOpen while it is still being made.
    """
    with transaction.atomic(durable=True):
        row = selectors.lock(selectors.own(token, lease_id).pk)
        if row.state == LeaseState.MINTING:
            raise NotOpen("This lease is still being made. Return it once it is there.")
        if row.state == LeaseState.OPEN:
            endings.promise(
                row,
                LeaseState.RETURNED,
                cause="",
                actor=row.agent.as_actor,
                now=now,
                due_at=now + _BACKSTOP,
            )
    if row.state == LeaseState.ENDING:
        _finish(row, now)
    return selectors.lease(row.pk)


def _finish(row: Lease, now: datetime) -> None:
    try:
        endings.finish(row.pk, actor=row.agent.as_actor, now=now)
    except Unfinished:
        # The job was promised with the return, and tries again.
        return


def _begin(
    token: AccessToken, name: str, *, ttl_s: int, scopes: Sequence[str], now: datetime
) -> Lease:
    """Write down that a credential is about to be minted. Raises what `take` raises first."""
    with transaction.atomic(durable=True):
        key = reach.access_granted(token, name, now=now)
        agent = _locked_agent(token)
        most = _most(agent, key, now=now, since=now)
        if Lease.objects.filter(agent=agent, key=key, state__in=HELD).count() >= terms.MOST_HELD:
            raise TooManyHeld(agent, key)
        row = Lease.objects.create(
            agent=agent,
            key=key,
            scopes=list(scopes),
            server=places.leads_to(key.connection),
            created_at=now,
            expires_at=terms.earliest(now + timedelta(seconds=ttl_s), most),
            # The call begins within this span, or what it makes is ended as too late.
            lapses_at=now + terms.GIVEN_UP + timedelta(seconds=minting.life_s(key.connection)),
        )
        fields = {"scopes": list(scopes), "expires_at": row.expires_at.isoformat()}
        endings.record("lease.asked", row, actor=agent.as_actor, now=now, fields=fields)
        return row


def _locked_agent(token: AccessToken) -> Agent:
    """Return the agent under its row lock, which makes its leases count one after the other."""
    if token.agent_id is None:
        raise NotVisible("a person takes no lease")
    agent = agents.lock(agent_id=token.agent_id)
    if agent.state != AgentState.ACTIVE:
        raise NotVisible(f"agent {agent.name}")
    return agent


def _most(
    agent: Agent,
    key: Key,
    *,
    now: datetime,
    since: datetime,
    lapses_at: datetime | None = None,
) -> datetime:
    """Return when a lease that began at `since` ends at the latest. Raises NotLent, NotVisible."""
    if key.state != KeyState.LIVE:
        raise NotLent(f"{key.name} is {key.get_state_display().lower()}.")
    if not minting.mints(key.connection):
        raise NotLent(
            f"{key.name} holds a value, which is read at the gateway; nothing is minted for it."
        )
    if key.expires_at is not None and key.expires_at <= now:
        raise NotLent(f"{key.name} is past its lifetime.")
    try:
        longest = timedelta(seconds=minting.longest_s(key))
    except Misconfigured as error:
        raise NotLent(f"{key.name} cannot be lent: {error}") from error
    held = list(rights.grants_of(agent, now=now).filter(key=key).values_list("ends_at", flat=True))
    if not held:
        raise NotVisible(f"key {key.name}")
    return terms.earliest(since + longest, key.expires_at, terms.latest(held), lapses_at)


def _give_up(row: Lease, error: NotMinted, *, now: datetime) -> None:
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


def _hand_over(row: Lease, minted: Minted, *, now: datetime) -> Lent:
    """Seal what ends the credential and open the lease, if it may still be had.

    Otherwise its end is promised in place of that, and the value goes to nobody.
    Raises NotVisible, NotMinted.
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
        if is_late or not selectors.is_allowed(fresh.pk, now=now):
            cause = "It came too late." if is_late else selectors.why_not(fresh)
            endings.promise(fresh, LeaseState.WITHDRAWN, cause=cause, actor=endings.WORKER, now=now)
        else:
            _open(fresh, minted, mark, now=now)
    if is_late:
        raise NotMinted("late", "The provider answered too late. What it made is ended.")
    if fresh.state != LeaseState.OPEN:
        raise NotVisible(f"key {fresh.key.name}")
    return Lent(fresh, issued.public, issued.material)


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
