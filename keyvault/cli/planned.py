"""What differs between what a file declares and what is, and who settles each difference. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keyvault.cli.declared import DEPENDENTS, TITLE, USE, DeclaredKey

JSON = Any
AT_ONCE, BY_POLICY = "at once", "by policy"
# What one call takes, as the server's own bounds have it, with room to spare.
MOST_KEYS, MOST_MEMBERS, MOST_BYTES = 200, 10_000, 200_000
_DECLARES = ("name", "agent", "health", "wave", "cache_s")


@dataclass(frozen=True, slots=True)
class Seen:
    """One key as the server tells it, with the ETags that say which state that is.

    waits: the caller's own open request that asks for the declared use, if there is one.
    """

    key: Mapping[str, JSON]
    etag: str
    dependents: Sequence[Mapping[str, JSON]] = ()
    dependents_etag: str = ""
    waits: Mapping[str, JSON] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan. `sign`: + comes, - goes, ~ becomes another. `note`: what goes with it."""

    sign: str
    field: str
    now: JSON
    then: JSON
    how: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """One key with what a file changes about it."""

    declared: DeclaredKey
    seen: Seen
    changes: tuple[Change, ...]

    @property
    def name(self) -> str:
        """Return the name of the key."""
        return self.declared.name

    @property
    def use(self) -> dict[str, JSON]:
        """Return the fields that policy decides about, as they are to be."""
        return {one.field: one.then for one in self.changes if one.how == BY_POLICY}

    def has(self, name: str) -> bool:
        """Say whether a field, or the list of dependents, changes."""
        return any(one.field == name for one in self.changes)

    def to_json(self) -> dict[str, JSON]:
        """Return it for programs."""
        rows = [
            {name: getattr(one, name) for name in ("sign", "field", "now", "then", "how", "note")}
            for one in self.changes
        ]
        waits = self.seen.waits["label"] if self.seen.waits else None
        return {"key": self.name, "changes": rows, "waits": waits}


@dataclass
class Plan:
    """What a file changes, key by key; keys that say it already are left out."""

    keys: list[Planned] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return how many changes there are."""
        return sum(len(one.changes) for one in self.keys)

    def asked(self) -> list[Planned]:
        """Return the keys of which something has to be asked that does not wait already."""
        return [one for one in self.keys if one.use and not one.seen.waits]

    def waiting(self) -> list[Mapping[str, JSON]]:
        """Return the requests that wait already, each once."""
        rows = [one.seen.waits for one in self.keys if one.use and one.seen.waits]
        return list({row["id"]: row for row in rows}.values())


def plan(declared: Iterable[DeclaredKey], seen: Mapping[str, Seen]) -> Plan:
    """Return what has to change for what is to be what is declared."""
    rows = (Planned(one, seen[one.name], tuple(_changes(one, seen[one.name]))) for one in declared)
    return Plan([row for row in rows if row.changes])


def wanted_use(declared: DeclaredKey, key: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return all that is to hold for the use of a key, whether declared or as it is."""
    return {name: _plain(declared.use.get(name, key[name])) for name in USE}


def calls(keys: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Yield the keys of each request: as few requests as the server's bounds allow."""
    batch: list[Planned] = []
    members = size = 0
    for one in keys:
        body = json.dumps(body_of(one))
        more, longer = body.count(",") + body.count(":") + 2, len(body.encode())
        is_full = members + more > MOST_MEMBERS or size + longer > MOST_BYTES
        if batch and (len(batch) == MOST_KEYS or is_full):
            yield batch
            batch, members, size = [], 0, 0
        batch.append(one)
        members, size = members + more, size + longer
    if batch:
        yield batch


def body_of(one: Planned, *, etag: str = "") -> dict[str, JSON]:
    """Return what is asked about one key; `etag`: how it is seen by now."""
    return {"key": one.name, "etag": etag or one.seen.etag, **one.use}


def _changes(declared: DeclaredKey, seen: Seen) -> Iterator[Change]:
    if declared.title is not None and declared.title != seen.key[TITLE]:
        yield Change("~", TITLE, seen.key[TITLE], declared.title, AT_ONCE)
    for name in USE:
        if name in declared.use:
            now, then = _plain(seen.key[name]), _plain(declared.use[name])
            if now != then:
                yield Change("~", name, now, then, BY_POLICY)
    if declared.dependents is not None:
        yield from _of_dependents(declared.dependents, seen.dependents)


def _of_dependents(
    wanted: Sequence[Mapping[str, JSON]], seen: Sequence[Mapping[str, JSON]]
) -> Iterator[Change]:
    """Yield who comes, goes or changes, by name. Who was only seen is nobody that was declared."""
    rows = {row["name"]: row for row in seen if row["connection"] is None}
    known = {name: _declared(row) for name, row in rows.items() if not row["is_discovered"]}
    for one in wanted:
        before = known.get(one["name"])
        if before is None:
            yield Change("+", DEPENDENTS, None, dict(one), AT_ONCE)
        elif before != one:
            note = _lost(rows[one["name"]])
            yield Change("~", DEPENDENTS, before, dict(one), AT_ONCE, note)
    names = {one["name"] for one in wanted}
    agents = {one["agent"] for one in wanted}
    for name, row in rows.items():
        if name not in names and not (row["is_discovered"] and row["agent"] in agents):
            yield Change("-", DEPENDENTS, _declared(row), None, AT_ONCE, _lost(row))


def _lost(row: Mapping[str, JSON]) -> str:
    """Return what a dependent loses that is ended, also where it is registered anew."""
    return "the approved address to ask ends" if row.get("probe") else ""


def _declared(row: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return what a dependent that the server tells of declares."""
    return {name: row[name] or "" if name == "agent" else row[name] for name in _DECLARES}


def _plain(value: JSON) -> JSON:
    return sorted(value) if isinstance(value, list | tuple) else value
