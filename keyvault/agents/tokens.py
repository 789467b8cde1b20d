"""Short-lived bearer tokens: issued, narrowed, checked and ended. None lives longer than an hour.

A token is opaque; the database keeps its keyed digest. A token derived from
another one can only be narrower and shorter, and ends with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Q, QuerySet

from approvals.ports import Actor, Subject
from keyvault.accounts.models import User
from keyvault.agents.models import (
    TOKEN_LEAST_S,
    TOKEN_MOST_S,
    AccessToken,
    Agent,
    AgentState,
    Binding,
    Client,
)
from keyvault.audit import ledger
from keyvault.crypto import tokens
from keyvault.crypto.secret import Secret

PREFIX = "kvt"
PERSON_MOST = timedelta(hours=8)
# A program that renews an hour's token each minute has 60; one with more than this many leaks them.
MOST_LIVE = 500
_NOBODY = "0" * 64


class BadToken(Exception):
    """The token opens nothing. It says no more: unknown, wrong, expired and ended look alike."""

    def __init__(self) -> None:
        super().__init__("This token opens nothing.")


class BadScope(ValueError):
    """What is asked of a token cannot be given; the message says the mend."""


class TooManyLive(Exception):
    """The holder has as many live tokens as one may have; the next one ends by itself `until`."""

    def __init__(self, holder: Actor, until: datetime) -> None:
        super().__init__(f"{holder.label} has {MOST_LIVE} live tokens, as many as one may have.")
        self.holder, self.until = holder, until


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token: its text, which is shown once, and its row."""

    text: Secret
    token: AccessToken


@dataclass(frozen=True, slots=True)
class Source:
    """What a token was given for. At most one is set; its end is the token's end."""

    client: Client | None = None
    binding: Binding | None = None
    parent: AccessToken | None = None

    @property
    def method(self) -> str:
        """Return how the holder proved itself, in a word."""
        if self.client is not None:
            return str(self.client.kind)
        return "oidc" if self.binding is not None else "token" if self.parent else "login"


def issue(
    *,
    holder: Agent | User,
    ttl_s: int,
    now: datetime,
    source: Source,
    keys: Iterable[str] | None = None,
    said_by: str = "",
) -> Issued:
    """Give out a token, inside the caller's transaction.

    ttl_s: seconds, 60 to 3600 for an agent, at most 8 h for a person's command
    line. `keys` narrows the token to keys by name; None means all that are
    granted. `said_by` is what an outside issuer called the bearer. Raises
    BadScope, BadToken (the holder is no longer active), TooManyLive.
    """
    _lock(holder, source, now=now)
    made = tokens.issue(PREFIX)
    row = _row(holder, source, ttl_s=ttl_s, keys=keys, now=now)
    _check_room(holder, now=now)
    row.public_id, row.digest, row.holder = made.public_id, made.stored, said_by[:300]
    row.save(force_insert=True)
    _record_issued(row, source, now=now)
    return Issued(made.text, row)


def authenticate(text: str, *, now: datetime) -> AccessToken:
    """Return the row of a token that holds now, with its holder. Raises BadToken.

    A wrong secret under a right id and an unknown id take the same steps, so
    that neither the answer nor its time tells them apart (R30).
    """
    row = find(text)
    if row is None or not holds(row, now=now):
        raise BadToken
    return row


def find(text: str) -> AccessToken | None:
    """Return the row of a token, in force or not, or None for a text that is none of ours."""
    try:
        public_id = tokens.public_id(text, PREFIX)
    except tokens.Malformed:
        public_id = ""
    row = (
        AccessToken.objects.select_related("agent", "user", "agent__owner")
        .filter(public_id=public_id)
        .first()
    )
    is_right = tokens.matches(text, row.digest if row else _NOBODY)
    return row if is_right else None


def holds(row: AccessToken, *, now: datetime) -> bool:
    """Say whether a token and its holder are in force."""
    if row.ended_at is not None or row.expires_at <= now:
        return False
    if row.agent is not None:
        return row.agent.state == AgentState.ACTIVE
    # What ends a person's sessions (a reset factor, a new password, "everywhere") ends these too.
    user = row.user
    return user is not None and user.is_active and user.session_epoch == row.epoch


def end(*, tokens_of: Q, cause: str, actor: Actor, now: datetime) -> list[UUID]:
    """End the open tokens that a condition selects, and all that were derived from them.

    Inside the caller's transaction; one event for each. Returns their ids.
    """
    found = _locked(tokens_of)
    ended: list[UUID] = []
    while found:
        ids = [row.pk for row in found]
        _open(ids).update(ended_at=now, ended_cause=cause[:120])
        for row in found:
            _record(
                "token.ended",
                row,
                actor=actor,
                now=now,
                fields={"token": row.public_id, "cause": cause},
            )
        ended += ids
        found = _locked(Q(parent_id__in=ids))
    return ended


def actor_of(row: AccessToken) -> Actor:
    """Return who acts with a token, for the ledger."""
    holder = row.agent or row.user
    assert holder is not None  # noqa: S101 - the table demands one of them.
    return _actor(holder)


def _actor(holder: Agent | User) -> Actor:
    if isinstance(holder, Agent):
        return holder.as_actor
    return Actor("user", str(holder.pk), str(holder))


def _lock(holder: Agent | User, source: Source, *, now: datetime) -> None:
    """Lock what the token will depend on, and refuse what has ended: none slips past an end.

    Raises BadToken.
    """
    if isinstance(holder, User):
        in_force = User.objects.select_for_update().get(pk=holder.pk).is_active
    else:
        agent = Agent.objects.select_for_update().get(pk=holder.pk)
        in_force = agent.state == AgentState.ACTIVE
    if source.client is not None:
        client = Client.objects.select_for_update().get(pk=source.client.pk)
        in_force = in_force and client.ended_at is None and client.expires_at > now
    if source.binding is not None:
        binding = Binding.objects.select_for_update().get(pk=source.binding.pk)
        in_force = in_force and binding.ended_at is None and binding.trust.ended_at is None
    if source.parent is not None:
        parent = AccessToken.objects.select_for_update(of=("self",)).get(pk=source.parent.pk)
        in_force = in_force and holds(parent, now=now)
    if not in_force:
        raise BadToken


def _row(
    holder: Agent | User, source: Source, *, ttl_s: int, keys: Iterable[str] | None, now: datetime
) -> AccessToken:
    """Return an unsaved token of a locked holder. Raises BadScope."""
    agent, user = (holder, None) if isinstance(holder, Agent) else (None, holder)
    if user is not None:
        # The row is locked by now, so no end of sessions slips in between.
        user.refresh_from_db(fields=["session_epoch"])
    return AccessToken(
        agent=agent,
        user=user,
        epoch=user.session_epoch if user else None,
        parent=source.parent,
        client=source.client,
        binding=source.binding,
        keys=_narrowed(keys, source.parent),
        issued_at=now,
        expires_at=_expiry(ttl_s, now, parent=source.parent, is_agent=agent is not None),
    )


def _locked(condition: Q) -> list[AccessToken]:
    """Return open tokens under row locks, a parent before what was derived from it.

    Whoever ends one tree and whoever ends all tokens of an agent then wait for
    each other in one order, and never in a circle.
    """
    rows = AccessToken.objects.select_for_update().filter(condition, ended_at=None)
    return list(rows.order_by("issued_at", "pk"))


def _check_room(holder: Agent | User, *, now: datetime) -> None:
    """Refuse a holder that has `MOST_LIVE` tokens in force; its row is locked. Raises TooManyLive.

    Tokens of a person's earlier epoch open nothing any more and do not count.
    """
    whose = (
        Q(agent=holder) if isinstance(holder, Agent) else Q(user=holder, epoch=holder.session_epoch)
    )
    live = AccessToken.objects.filter(whose, ended_at=None, expires_at__gt=now)
    ends = live.order_by("expires_at").values_list("expires_at", flat=True)[:MOST_LIVE]
    found = list(ends)
    if len(found) >= MOST_LIVE:
        raise TooManyLive(_actor(holder), found[0])


def _open(ids: list[UUID]) -> QuerySet[AccessToken]:
    return AccessToken.objects.filter(pk__in=ids, ended_at=None)


def _narrowed(keys: Iterable[str] | None, parent: AccessToken | None) -> list[str] | None:
    """Return the names that a token is limited to. Raises BadScope: wider than its parent."""
    wanted = None if keys is None else sorted(set(keys))
    if parent is None or parent.keys is None:
        return wanted
    if wanted is None:
        return list(parent.keys)
    wider = sorted(set(wanted) - set(parent.keys))
    if wider:
        raise BadScope(f"The token that this one comes from does not reach {', '.join(wider)}.")
    return wanted


def _expiry(ttl_s: int, now: datetime, *, parent: AccessToken | None, is_agent: bool) -> datetime:
    """Return when a token ends: never after its parent. Raises BadScope."""
    most_s = TOKEN_MOST_S if is_agent else int(PERSON_MOST.total_seconds())
    if not TOKEN_LEAST_S <= ttl_s <= most_s:
        raise BadScope(f"A token lives {TOKEN_LEAST_S} to {most_s} seconds.")
    expires_at = now + timedelta(seconds=ttl_s)
    return min(expires_at, parent.expires_at) if parent else expires_at


def _record_issued(row: AccessToken, source: Source, *, now: datetime) -> None:
    fields = {
        "token": row.public_id,
        "method": source.method,
        "keys": row.keys,
        "expires_at": row.expires_at.isoformat(),
        "said_by": row.holder,
        "parent": source.parent.public_id if source.parent else None,
    }
    _record("token.issued", row, actor=actor_of(row), now=now, fields=fields)


def _record(
    event: str, row: AccessToken, *, actor: Actor, now: datetime, fields: Mapping[str, object]
) -> None:
    whose = actor_of(row)
    kind = "agent" if row.agent_id else "person"
    subject = Subject(kind, whose.id, whose.label)
    ledger.record(event, actor=actor, subject=subject, now=now, fields=fields)
