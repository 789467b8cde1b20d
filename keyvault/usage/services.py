"""Take reports of use: judge each event, keep what is good, add it to the sums."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import connection, transaction

from keyvault.accounts.models import User
from keyvault.inventory import naming
from keyvault.usage import rights, rollups
from keyvault.usage.models import UsageKind
from keyvault.usage.rollups import Place, Tally

if TYPE_CHECKING:
    from keyvault.agents.models import Agent

MOST_EVENTS = 1000
MOST_COUNT = 1_000_000
MOST_NUMBER = 2**31 - 1
PAST, AHEAD = timedelta(hours=24), timedelta(minutes=5)

_COPY = """
COPY keyvault_usageevent (reported_at, agent_id, user_id, at, key_id, number, host, count)
FROM STDIN
"""


class TooMany(ValueError):
    """A batch holds more than 1,000 events, and none of it was taken."""


@dataclass(frozen=True, slots=True)
class Reported:
    """One event as it is reported. `count`: like uses that it stands for; `host`: what was called."""

    key: str
    at: datetime
    host: str = ""
    count: int = 1
    number: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why one event of a batch was not taken, by its place in the batch (from 0)."""

    index: int
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a batch: how many events were taken, and which were not."""

    accepted: int
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class _Good:
    key_id: UUID
    at: datetime
    host: str
    count: int
    number: int | None


class _Refused(ValueError):
    """An event cannot be taken; carries the code of the refusal."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def report(
    *,
    principal: Agent | User,
    events: Sequence[Reported],
    now: datetime,
    only: Collection[str] | None = None,
) -> Report:
    """Keep what a principal reports about its use of keys, and add it to the sums.

    only: the names that its token is narrowed to, None for every key. Each event is judged alone; those that are refused are returned with the
    reason. A key that does not exist and one that was never granted are refused
    in the same words. Raises TooMany.
    """
    if len(events) > MOST_EVENTS:
        raise TooMany(f"A batch holds at most {MOST_EVENTS:,} events.")
    keys = rights.keys_of(principal, _names(events, only), now=now)
    hosts: dict[str, str] = {}
    good, refused = [], []
    for index, event in enumerate(events):
        try:
            good.append(_judged(event, keys, hosts, now))
        except _Refused as error:
            refused.append(Refusal(index, error.code, str(error)))
    if good:
        with transaction.atomic(durable=True):
            _keep(good, principal, now)
            rollups.add(_tallies(good, principal))
    return Report(len(good), tuple(refused))


def _names(events: Iterable[Reported], only: Collection[str] | None) -> list[str]:
    """Return the names that can be those of keys; what cannot is no query's business."""
    named = {event.key for event in events}
    found = named if only is None else named.intersection(only)
    return [name for name in found if len(name) <= naming.NAME_MAX and "\x00" not in name]


def _judged(
    event: Reported, keys: Mapping[str, UUID], hosts: dict[str, str], now: datetime
) -> _Good:
    """Return the event as it is kept. Raises _Refused."""
    if event.key not in keys:
        raise _Refused("key", "There is no key of this name that you may use.")
    if event.at.tzinfo is None or not now - PAST <= event.at <= now + AHEAD:
        raise _Refused("at", "The time lies more than 24 hours back or 5 minutes ahead.")
    if not 1 <= event.count <= MOST_COUNT:
        raise _Refused("count", f"The count is 1 to {MOST_COUNT:,}.")
    if event.number is not None and not 1 <= event.number <= MOST_NUMBER:
        raise _Refused("version", "There is no such version.")
    return _Good(keys[event.key], event.at, _host(event.host, hosts), event.count, event.number)


def _host(text: str, known: dict[str, str]) -> str:
    """Return a host in its one form, looked up among those of this batch. Raises _Refused."""
    if not text:
        return ""
    if text not in known:
        try:
            name = naming.host(text)
        except naming.BadName as error:
            raise _Refused("host", str(error)) from error
        if name.startswith("*"):
            raise _Refused("host", "A call goes to one host, not to every host below a domain.")
        known[text] = name
    return known[text]


def _keep(good: Sequence[_Good], principal: Agent | User, now: datetime) -> None:
    fixed = (now, *_who(principal))
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for event in good:
            copy.write_row((*fixed, event.at, event.key_id, event.number, event.host, event.count))


def _tallies(good: Iterable[_Good], principal: Agent | User) -> Iterable[Tally]:
    agent_id, user_id = _who(principal)
    for event in good:
        hour = rollups.hour_of(event.at)
        place = Place(event.key_id, hour, agent_id, user_id, event.host, UsageKind.REPORTED)
        yield Tally(place, event.count, event.at)


def _who(principal: Agent | User) -> tuple[UUID | None, UUID | None]:
    return (None, principal.pk) if isinstance(principal, User) else (principal.pk, None)
