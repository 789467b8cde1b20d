"""May this bearer read this key now? Pure: tokens, grants and memberships against a moment.

Every span is half-open: a right that ends at noon is over at noon.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from keyvault.crypto import tokens
from keyvault.gateway.cache import Agent, Cache, Token
from keyvault.gateway.entries import Entry, Grant

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
    last = None
    for grant in entry.grants:
        ends_at = _ends_at(grant, agent, now)
        if ends_at is not None and (last is None or ends_at > last):
            last = ends_at
    return last


def _ends_at(grant: Grant, agent: Agent, now: datetime) -> datetime | None:
    """Return when what a grant gives an agent now ends, itself or by a group; None: it gives nothing."""
    ends_at = grant.ends_at or NEVER
    if not grant.starts_at <= now < ends_at:
        return None
    if grant.holder == agent.holder:
        return ends_at
    last = None
    for stay in agent.stays:
        if stay.group == grant.holder:
            left_at = stay.left_at or NEVER
            if stay.joined_at <= now < left_at and (last is None or left_at > last):
                last = left_at
    return last and min(ends_at, last)
