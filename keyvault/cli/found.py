"""What `keyvault import` has found in a source, and how it becomes the body of a call. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keyvault.cli.codes import Exit
from keyvault.launcher.sentences import Stop

JSON = Any
# What one call takes, as the server's own bounds have it, with room for names and signs.
MOST, MOST_BYTES = 200, 600_000
# A shorter value is a setting, and could be guessed from its fingerprint.
LEAST_BYTES = 8
_NUMBERS = frozenset({"lifetime_days", "cadence_days", "volume_per_day"})
_LISTS = frozenset({"allowed_hosts", "labels"})
_TEXTS = frozenset(
    {
        "name",
        "title",
        "connection",
        "environment",
        "team",
        "owner",
        "purpose",
        "backup_owner",
        "calendar",
        "delivery_mode",
        "remote_id",
    }
)
_OPTION, _FLAG = "option_", "external_input"
COLUMNS = _TEXTS | _NUMBERS | _LISTS | {_FLAG}
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": False}


@dataclass(frozen=True, slots=True)
class Found:
    """One value, where it stood, and what its source says of it: texts by field."""

    where: str
    value: str = field(repr=False)
    said: Mapping[str, str]

    @property
    def owner(self) -> str:
        """Return the user name of its owner; empty for whoever brings it."""
        return self.said.get("owner", "").strip().lower()


def name_of(text: str) -> str:
    """Return the name of a key made from that of a variable or a path."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def completed(found: Found, defaults: Mapping[str, str]) -> Found:
    """Return it with what the options of the command say where its source says nothing."""
    said = {name: text for name, text in found.said.items() if text.strip()}
    return Found(found.where, found.value, {**defaults, **said})


def by_length(found: Sequence[Found]) -> tuple[list[Found], list[Found]]:
    """Return the values that can be secrets, and those that are too short."""
    long = [one for one in found if len(one.value.encode()) >= LEAST_BYTES]
    return long, [one for one in found if len(one.value.encode()) < LEAST_BYTES]


def unlike(found: Iterable[Found]) -> Iterator[Found]:
    """Yield each value once; whoever comes later has the same one under another name."""
    seen: set[str] = set()
    for one in found:
        if one.value not in seen:
            seen.add(one.value)
            yield one


def calls(found: Sequence[Found]) -> Iterator[list[Found]]:
    """Yield what one call brings: keys of one owner, as many as one request takes."""
    for owner in dict.fromkeys(one.owner for one in found):
        batch: list[Found] = []
        size = 0
        for one in (row for row in found if row.owner == owner):
            more = len(one.value.encode()) + sum(len(text.encode()) for text in one.said.values())
            if batch and (len(batch) == MOST or size + more > MOST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(one)
            size += more
        if batch:
            yield batch


def body_of(found: Found) -> dict[str, JSON]:
    """Return one key as the server takes it. Raises Stop on what no field can be."""
    sent: dict[str, JSON] = {"value": found.value}
    options: dict[str, str] = {}
    for name, text in found.said.items():
        if name.startswith(_OPTION):
            options[name.removeprefix(_OPTION)] = text
        else:
            sent[name] = _typed(name, text.strip(), found.where)
    return {**sent, **({"options": options} if options else {})}


def is_column(name: str) -> bool:
    """Say whether a column of a table is one that the server knows."""
    return name in COLUMNS or (name.startswith(_OPTION) and name != _OPTION)


def _typed(name: str, text: str, where: str) -> JSON:
    if name in _LISTS:
        return text.replace(",", " ").split()
    if name in _NUMBERS:
        if not text.isascii() or not text.isdigit():
            raise Stop(f"{where}: {name} is a whole number.", code=Exit.USAGE)
        return int(text)
    if name == _FLAG:
        if text.lower() not in _WORDS:
            raise Stop(f"{where}: {name} is yes or no.", code=Exit.USAGE)
        return _WORDS[text.lower()]
    return text
