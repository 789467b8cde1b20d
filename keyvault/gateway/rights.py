"""May this bearer read this key now? Pure: tokens, grants and memberships against a moment.

Every span is half-open: a right that ends at noon is over at noon.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from keyvault.crypto import tokens
from keyvault.gateway.cache import Agent, Cache, Token
from keyvault.gateway.entries import Entry

NEVER = datetime.max.replace(tzinfo=UTC)
_NOBODY = Token("", "0" * 64, None, NEVER, None)


class BadToken(Exception):
    """The token opens nothing. It says no more: unknown, wrong, expired and ended look alike."""


class Person(Exception):
    """The token is a person's, and people do not read values here."""


class Bearer(NamedTuple):
    """Who asks: a token that holds, and its agent."""

    token: Token
    agent: Agent


def bearer(cache: Cache, text: str, now: datetime) -> Bearer:
    """Return whose token `text` is. Raises BadToken, Person.

    An unknown id and a wrong secret take the same steps, so that neither the
    answer nor its time tells them apart (R30).
    """
    token = cache.tokens.get(tokens.claimed_id(text), _NOBODY)
    is_right = tokens.matches(text, token.digest)
    if not is_right or token is _NOBODY or token.expires_at <= now:
        raise BadToken
    if token.agent is None:
        raise Person
    agent = cache.agents.get(token.agent)
    if agent is None:
        raise BadToken
    return Bearer(token, agent)


def until(who: Bearer, name: str, entry: Entry, now: datetime) -> datetime | None:
    """Return when the bearer's right to a key ends, the last of several; None: it has none.

    NEVER stands for a right without an end.
    """
    token, agent = who
    if token.keys is not None and name not in token.keys:
        return None
    return max(_ends(agent, entry, now), default=None)


def _ends(agent: Agent, entry: Entry, now: datetime) -> Iterator[datetime]:
    """Yield the end of each right to a key that an agent has now, its own and its groups'."""
    for grant in entry.grants:
        ends_at = grant.ends_at or NEVER
        if not grant.starts_at <= now < ends_at:
            continue
        if grant.holder == agent.holder:
            yield ends_at
        for stay in agent.stays:
            left_at = stay.left_at or NEVER
            if stay.group == grant.holder and stay.joined_at <= now < left_at:
                yield min(ends_at, left_at)
