"""Take a lease, make it last longer, give it back: acts of an agent with its own token.

    write that we try -> mint -> seal and hand over

The arrows are transactions, the call stands between them. The value is handed to
whoever asked and to nobody else, once. What a crash leaves is ended by the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction

from approvals.ports import NotVisible, Unfinished
from keyvault.agents import reach
from keyvault.agents import selectors as rights
from keyvault.agents import services as agents
from keyvault.agents.models import AccessToken, Agent, AgentState
from keyvault.connections import minting, places
from keyvault.connections.minting import NotMinted
from keyvault.inventory.models import Key, KeyState
from keyvault.leases import endings, handover, selectors, terms
from keyvault.leases.handover import Lent
from keyvault.leases.models import HELD, Lease, LeaseState
from keyvault.providers.base import Misconfigured
from keyvault.rooms import Room

# Whoever gives a lease back ends it in the same breath; the job comes for what that could not.
_BACKSTOP = timedelta(seconds=30)
# Calls to providers in requests of this process. A provider that hangs keeps no more of its
# threads than these, and the runs of one agent never keep the last of them.
CALLS, OF_ONE, AGAIN_S = 4, 3, 5
room = Room(CALLS, each=OF_ONE)


class NotLent(Exception):
    """Nothing can be minted for this key now. The message says why."""


class TooManyHeld(Exception):
    """The agent holds as many leases of this key as it may at once."""

    def __init__(self, agent: Agent, key: Key) -> None:
        super().__init__(
            f"{agent.name} holds {terms.MOST_HELD} leases of {key.name}, as many as it may. "
            "Return those that are done."
        )


class NoPlace(Exception):
    """As many calls to providers are under way here as may be; nothing was begun."""

    def __init__(self) -> None:
        super().__init__(
            "Other runs wait for their providers. Nothing was begun; take the lease a little later."
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
    forbidden and a person's token alike), NotLent, TooManyHeld, NotMinted, NoPlace, BadToken
    (it has ended meanwhile).
    """
    with room.place(str(token.agent_id)) as has_place:
        if not has_place:
            raise NoPlace
        return _take(token, name, ttl_s=ttl_s, scopes=scopes, now=now)


def _take(
    token: AccessToken, name: str, *, ttl_s: int, scopes: Sequence[str], now: datetime
) -> Lent:
    began = time.monotonic()
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
        handover.give_up(row, error, now=now)
        raise
    # The provider has had its time, in which tokens and rights end.
    answered_at = now + timedelta(seconds=time.monotonic() - began)
    return handover.hand_over(row, minted, token=token, now=answered_at)


def renew(
    *, token: AccessToken, lease_id: UUID, now: datetime, ttl_s: int = terms.USUAL_S
) -> Lease:
    """Let an open lease last `ttl_s` from now, as far as its credential lives. No call is made.

    One that lasts longer already is left as it is. Raises NotVisible, NotOpen, NotRenewable.
    """
    with transaction.atomic(durable=True):
        row = selectors.lock(selectors.own(token, lease_id).pk)
        is_over = row.state == LeaseState.OPEN and row.expires_at <= now
        if row.state != LeaseState.OPEN or is_over:
            # The sweep, which notes that it is over, may be a second late.
            state = LeaseState.EXPIRED if is_over else LeaseState(row.state)
            raise NotOpen(f"This lease is {state.label.lower()}. Take a new one.")
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

    Where the provider does not answer, or too many wait for theirs, the lease is left ending,
    and a job goes on. Raises NotVisible, NotOpen while it is still being made.
    """
    with room.place(str(token.agent_id)) as has_place:
        due_at = now + _BACKSTOP if has_place else None
        row, is_promised = _return(token, lease_id, now=now, due_at=due_at)
        # Whoever repeats it finds the job promised: to call once more would only cost a thread.
        if is_promised and has_place:
            _finish(row, now)
    return selectors.lease(row.pk)


def _return(
    token: AccessToken, lease_id: UUID, *, now: datetime, due_at: datetime | None
) -> tuple[Lease, bool]:
    """Promise the end of an open lease; return it, and whether this call has promised it."""
    with transaction.atomic(durable=True):
        row = selectors.lock(selectors.own(token, lease_id).pk)
        if row.state == LeaseState.MINTING:
            raise NotOpen("This lease is still being made. Return it once it is there.")
        is_open = row.state == LeaseState.OPEN
        if is_open:
            actor, aim = row.agent.as_actor, LeaseState.RETURNED
            endings.promise(row, aim, cause="", actor=actor, now=now, due_at=due_at)
    return row, is_open


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
