"""Exchange a proof for a short-lived token: check, commit, and wait until every gateway knows it.

The outermost services of the token endpoint. Nothing is minted on a path that
ends in an error: token, spent assertion and ledger line are one transaction,
and a token that could not be handed over is ended again (R38).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db import DatabaseError, transaction
from django.db.models import Q

from keyvault.accounts import lockout
from keyvault.accounts.models import User
from keyvault.agents import federation, proofs, tokens
from keyvault.agents.models import (
    TOKEN_DEFAULT_S,
    TOKEN_LEAST_S,
    TOKEN_MOST_S,
    Agent,
    Binding,
    Client,
)
from keyvault.agents.proofs import Refused
from keyvault.agents.tokens import BadScope, BadToken, Issued, Source
from keyvault.audit.ledger import LedgerUnavailable
from keyvault.crypto.digest import NoIndexKey
from keyvault.invalidation import services as invalidation
from keyvault.inventory import naming

WAIT_S = 1.0
MOST_KEYS = 200
_MOST_DIGITS = 9
# No fault of the caller's: nothing was done, and the same request may do later.
OUT_OF_SERVICE = (DatabaseError, LedgerUnavailable, NoIndexKey)


class BadLifetime(ValueError):
    """The lifetime asked for is no number of seconds within the limits."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a token: its keys by name (None for all granted) and its life in seconds."""

    keys: tuple[str, ...] | None = None
    ttl_s: int = TOKEN_DEFAULT_S

    @classmethod
    def parse(cls, *, keys: str, expires_in: str) -> Wish:
        """Read what a form says: names between spaces or commas, and whole seconds.

        Raises BadScope, BadLifetime.
        """
        names = keys.replace(",", " ").split()
        if len(names) > MOST_KEYS:
            raise BadScope(f"Name at most {MOST_KEYS} keys.")
        try:
            wanted = tuple(naming.key_name(name) for name in names)
        except naming.BadName:
            raise BadScope("The scope holds something that is not the name of a key.") from None
        return cls(wanted or None, _seconds(expires_in))


def for_secret(*, client_id: str, secret: str, wish: Wish, ip: str, now: datetime) -> Issued:
    """Give a token for a client secret. Raises Refused, lockout.LockedOut."""
    with _counted(client_id, ip=ip, now=now):
        client = proofs.by_secret(client_id=client_id, secret=secret, now=now)
        return _give(client.agent, Source(client=client), wish, now=now)


def for_assertion(
    *, client_id: str, assertion: str, audience: str, wish: Wish, ip: str, now: datetime
) -> Issued:
    """Give a token for an assertion that the agent signed with its own key, once.

    Raises Refused, lockout.LockedOut.
    """
    with _counted(client_id, ip=ip, now=now):
        proved = proofs.by_assertion(
            text=assertion, client_id=client_id, audience=audience, now=now
        )
        source = Source(client=proved.client)
        return _give(proved.client.agent, source, wish, now=now, last=lambda: proofs.spend(proved))


def for_outside_token(*, client_id: str, text: str, wish: Wish, ip: str, now: datetime) -> Issued:
    """Give a token for one of a trusted issuer (RFC 8693). Raises Refused, lockout.LockedOut."""
    with _counted(client_id, ip=ip, now=now):
        vouched = federation.vouch(text=text, client_id=client_id, now=now)
        source = Source(binding=vouched.binding)
        return _give(
            vouched.agent,
            source,
            wish,
            now=now,
            last=lambda: federation.confirm(vouched),
            said_by=vouched.said_by,
        )


def for_token(*, text: str, wish: Wish, ip: str, now: datetime) -> Issued:
    """Give a narrower or shorter token for one of ours; it ends with the one it came from.

    Raises Refused, BadScope (wider than its parent), lockout.LockedOut.
    """
    with _counted("", ip=ip, now=now):
        try:
            parent = tokens.authenticate(text, now=now)
        except BadToken:
            raise Refused("wrong token") from None
        holder = parent.agent or parent.user
        assert holder is not None  # noqa: S101 - the table demands one of them.
        return _give(holder, Source(parent=parent), wish, now=now)


def revoke(*, text: str, now: datetime) -> None:
    """End the token whose text this is, and its children, on every gateway.

    What is no token of ours, or has ended, changes nothing and is not told apart (RFC 7009
    section 2.2).
    """
    with transaction.atomic(durable=True):
        row = tokens.find(text)
        if row is None:
            return
        actor = tokens.actor_of(row)
        tokens.end(tokens_of=Q(pk=row.pk), cause="given back", actor=actor, now=now)
        xact = invalidation.transaction_id()
    invalidation.wait(xact, timeout_s=WAIT_S)


@contextmanager
def _counted(name: str, *, ip: str, now: datetime) -> Iterator[None]:
    """Charge a refused proof to the name it gave and its address. Raises lockout.LockedOut."""
    try:
        yield
    except Refused as error:
        reason = f"token: {error.reason}"
        lockout.refuse_program(name=name, ip=ip, reason=reason, whose=error.agent, now=now)
        raise


def _give(
    holder: Agent | User,
    source: Source,
    wish: Wish,
    *,
    now: datetime,
    last: Callable[[], None] = lambda: None,
    said_by: str = "",
) -> Issued:
    """Make the token and return it once every gateway in touch knows it, or after a second.

    One that has fallen silent is not waited for: it may refuse the token, which
    a client asks for anew, and would hold every other token up until it is back.

    `last` runs in the transaction once all that the token rests on is locked;
    what it raises takes the token back. Raises Refused when what it rests on has ended meanwhile, BadScope,
    tokens.TooManyLive.
    """
    try:
        with transaction.atomic(durable=True):
            made = tokens.issue(
                holder=holder,
                ttl_s=wish.ttl_s,
                now=now,
                source=source,
                keys=wish.keys,
                said_by=said_by,
            )
            last()
            _note_use(holder, source, now=now)
            xact = invalidation.transaction_id()
    except BadToken:
        raise Refused("ended meanwhile") from None
    with _ended_on_failure(made, now=now):
        invalidation.wait(xact, timeout_s=WAIT_S, is_gain=True)
    return made


@contextmanager
def _ended_on_failure(made: Issued, *, now: datetime) -> Iterator[None]:
    """End a committed token when its text cannot be handed over."""
    try:
        yield
    except BaseException:
        with transaction.atomic(durable=True):
            actor = tokens.actor_of(made.token)
            tokens.end(tokens_of=Q(pk=made.token.pk), cause="not handed over", actor=actor, now=now)
        raise


def _note_use(holder: Agent | User, source: Source, *, now: datetime) -> None:
    """Write when an agent and its proof were last used; the rows are locked already."""
    if isinstance(holder, Agent):
        Agent.objects.filter(pk=holder.pk).update(last_seen_at=now)
    if source.client is not None:
        Client.objects.filter(pk=source.client.pk).update(last_used_at=now)
    if source.binding is not None:
        Binding.objects.filter(pk=source.binding.pk).update(last_used_at=now)


def _seconds(text: str) -> int:
    """Return a lifetime in seconds, the default for "". Raises BadLifetime."""
    if not text:
        return TOKEN_DEFAULT_S
    is_short_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    if is_short_number and TOKEN_LEAST_S <= int(text) <= TOKEN_MOST_S:
        return int(text)
    raise BadLifetime(f"expires_in takes {TOKEN_LEAST_S} to {TOKEN_MOST_S} seconds.")
