"""Compare the use of a key with what was declared and granted (pure).

A deviation is what a person should look at. It holds while the use that shows it
lies within the last 24 hours, and is over by itself after that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

HOST, VOLUME, ENDED, BY_HAND = "use_host", "use_volume", "use_ended", "use_by_hand"
KINDS = (HOST, VOLUME, ENDED, BY_HAND)
# A gateway learns of an ended right within seconds, and clocks differ.
LEEWAY = timedelta(minutes=5)
# More lines about one key help nobody, and whoever reports could make as many as they like.
MOST = 20


@dataclass(frozen=True, slots=True)
class Declared:
    """What was approved for a key. is_by_hand: its owner reads it once; no program fetches it."""

    name: str
    hosts: Collection[str]
    volume_per_day: int
    is_by_hand: bool


@dataclass(frozen=True, slots=True)
class Use:
    """The use of one key by one principal in the last 24 hours, at one host.

    `agent_id` is None for a person. is_reported: `host` is what was called, and
    else the address that read from a gateway; of a lease it is empty.
    """

    agent_id: UUID | None
    who: str
    host: str
    is_reported: bool
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way in which use goes beyond what was declared. `detail` tells those of a kind apart."""

    kind: str
    detail: str
    sentence: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def deviations(
    declared: Declared, uses: Sequence[Use], rights: Mapping[UUID, datetime | None]
) -> tuple[Deviation, ...]:
    """Return what goes beyond, at most 20 of each kind.

    rights: until when each agent could use the key, None while that is open; an
    agent that is missing never could.
    """
    found: list[Deviation] = []
    for look in (_hosts, _volume, _ended, _by_hand):
        by_detail = {one.detail: one for one in look(declared, uses, rights)}
        found += [by_detail[detail] for detail in sorted(by_detail)[:MOST]]
    return tuple(found)


def is_allowed(host: str, allowed: Collection[str]) -> bool:
    """Say whether a host, with or without a port, is among those allowed; none means any.

    An allowed host without a port allows every port. "*." allows what is below a domain.
    """
    return not allowed or any(_matches(host, pattern) for pattern in allowed)


def _matches(host: str, pattern: str) -> bool:
    name, _, port = host.partition(":")
    wanted, _, wanted_port = pattern.partition(":")
    if wanted_port and wanted_port != port:
        return False
    return name.endswith(wanted[1:]) if wanted.startswith("*.") else name == wanted


_Rights = Mapping[UUID, datetime | None]


def _hosts(declared: Declared, uses: Iterable[Use], _rights: _Rights) -> Iterator[Deviation]:
    for use in uses:
        if use.is_reported and use.host and not is_allowed(use.host, declared.hosts):
            sentence = (
                f"{use.who} called {use.host} with {declared.name}, "
                "which is not among its allowed hosts."
            )
            allowed = {"allowed_hosts": sorted(declared.hosts)}
            yield Deviation(HOST, f"{_id(use)} {use.host}", sentence, _seen(use) | allowed)


def _volume(declared: Declared, uses: Sequence[Use], _rights: _Rights) -> Iterator[Deviation]:
    """Compare what was reported, and else what was read: a read value is used many times."""
    reported = sum(use.count for use in uses if use.is_reported)
    total = max(reported, sum(use.count for use in uses if not use.is_reported))
    if total > declared.volume_per_day:
        most = max(uses, key=lambda use: use.count)
        sentence = (
            f"{declared.name} was used {total:,} times in a day; "
            f"{declared.volume_per_day:,} were declared. {most.who} used it most."
        )
        numbers = {"count": total, "declared": declared.volume_per_day}
        yield Deviation(VOLUME, "", sentence, numbers | {"most": most.who})


def _ended(declared: Declared, uses: Iterable[Use], rights: _Rights) -> Iterator[Deviation]:
    for agent_id, use in _last_of_each(uses):
        if agent_id not in rights:
            sentence = f"{use.who} uses {declared.name} and was never granted it."
            yield Deviation(ENDED, _id(use), sentence, _seen(use))
        elif (end := rights[agent_id]) is not None and use.last_at > end + LEEWAY:
            sentence = f"{use.who} used {declared.name} after its right to do so had ended."
            yield Deviation(ENDED, _id(use), sentence, _seen(use) | {"ended_at": end.isoformat()})


def _by_hand(declared: Declared, uses: Iterable[Use], _rights: _Rights) -> Iterator[Deviation]:
    if declared.is_by_hand:
        for _, use in _last_of_each(use for use in uses if use.is_reported):
            sentence = (
                f"{use.who} uses {declared.name}, whose value a person reads once: "
                "somebody has copied it into a program."
            )
            yield Deviation(BY_HAND, _id(use), sentence, _seen(use))


def _last_of_each(uses: Iterable[Use]) -> Iterable[tuple[UUID, Use]]:
    """Return the newest use of each agent."""
    found: dict[UUID, Use] = {}
    for use in uses:
        if use.agent_id is not None:
            before = found.get(use.agent_id)
            if before is None or use.last_at > before.last_at:
                found[use.agent_id] = use
    return found.items()


def _id(use: Use) -> str:
    return str(use.agent_id) if use.agent_id else use.who


def _seen(use: Use) -> dict[str, Any]:
    return {
        "who": use.who,
        "agent": str(use.agent_id) if use.agent_id else "",
        "host": use.host,
        "source": "reported" if use.is_reported else "read",
        "count": use.count,
        "last_at": use.last_at.isoformat(),
    }
