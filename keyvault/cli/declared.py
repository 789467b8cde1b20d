"""Read a file that declares keys: what is wrong is said with its line and the nearest right name. Pure.

A file says what shall hold, and what it does not name stays as it is. The list
of those who use a key is named as a whole or not at all.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from keyvault.cli import printing
from keyvault.cli.codes import Exit
from keyvault.cli.declared_lines import Lines
from keyvault.inventory import naming
from keyvault.launcher.sentences import Stop

JSON = Any
TITLE, DEPENDENTS = "title", "dependents"
USE = ("delivery_mode", "allowed_hosts", "volume_per_day", "labels")
FIELDS = (TITLE, *USE, DEPENDENTS)
HEALTHS = ("reads", "reports", "by_hand", "probed")
BY_HAND = "by_hand"
_WITHOUT_AGENT = (BY_HAND, "probed")
_DELIVERIES = ("reveal", "pull")
_OF_DEPENDENT = ("name", "agent", "health", "wave", "cache_s")
# What a key is asked for with, and what no request changes afterwards.
_FIXED = frozenset(
    {
        "backup_owner",
        "cadence_days",
        "calendar",
        "connection",
        "environment",
        "external_input",
        "lifetime_days",
        "options",
        "owner",
        "purpose",
        "team",
    }
)
# The server's own bounds; a test compares them.
MOST_TITLE, MOST_NAME, MOST_LABELS, MOST_HOSTS = 120, 120, 20, 100
MOST_DEPENDENTS, MOST_WAVE, MOST_CACHE_S, MOST_CALLS = 90, 100, 2_592_000, 1_000_000_000


@dataclass(frozen=True, slots=True)
class DeclaredKey:
    """What a file says of one key. `dependents` is None where it says nothing of them."""

    name: str
    line: int
    title: str | None = None
    use: Mapping[str, JSON] = field(default_factory=dict)
    dependents: tuple[Mapping[str, JSON], ...] | None = None


class _Wrong(ValueError):
    """A value that cannot be; the message says the mend."""


def read(path: Path) -> list[DeclaredKey]:
    """Return what a file declares, by name. Raises Stop with every fault, OSError."""
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except UnicodeDecodeError:
        raise Stop(f"{path}: it is no text in UTF-8.", code=Exit.USAGE) from None
    except tomllib.TOMLDecodeError as error:
        raise Stop(f"{path}: this is no TOML: {error}.", code=Exit.USAGE) from None
    reader = _Reader(str(path), Lines(text))
    keys = list(reader.keys(found))
    if reader.faults:
        raise Stop("\n  ".join(map(printing.plain, reader.faults)), code=Exit.USAGE)
    if not keys:
        raise Stop(f"{path}: it declares no key. Begin with [keys.NAME].", code=Exit.USAGE)
    return sorted(keys, key=lambda key: key.name)


def nearest(name: str, known: Iterator[str] | tuple[str, ...] | list[str]) -> str:
    """Return the question that proposes the nearest known name, or nothing where none is near."""
    close = get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


@dataclass
class _Reader:
    """Reads the tables of one file, and collects what is wrong with them."""

    where: str
    lines: Lines
    faults: list[str] = field(default_factory=list)

    def keys(self, found: Mapping[str, JSON]) -> Iterator[DeclaredKey]:
        """Yield each key that is declared well."""
        self._only(found, ("keys",))
        tables = found.get("keys", {})
        if not isinstance(tables, dict):
            self._fault("keys is a table of keys: write [keys.NAME].", "keys")
            return
        seen: set[str] = set()
        for name, table in tables.items():
            plain = self._value(_key_name, name, "keys", name)
            if not isinstance(table, dict):
                self._fault(f"say what holds for it in a table: [keys.{name}].", "keys", name)
            elif plain in seen:
                self._fault("the key stands there twice.", "keys", name)
            elif plain is not None:
                seen.add(plain)
                yield self._key(plain, name, table)

    def _key(self, plain: str, name: str, table: Mapping[str, JSON]) -> DeclaredKey:
        at = ("keys", name)
        self._only(table, FIELDS, *at)
        use = {one: self._value(_READ[one], table[one], *at, one) for one in USE if one in table}
        title = self._value(_title, table[TITLE], *at, TITLE) if TITLE in table else None
        listed = self._dependents(table[DEPENDENTS], *at) if DEPENDENTS in table else None
        return DeclaredKey(plain, self.lines.of(*at), title, use, listed)

    def _dependents(self, found: JSON, *at: str) -> tuple[Mapping[str, JSON], ...]:
        here = (*at, DEPENDENTS)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            self._fault(f"write [[{'.'.join(here)}]] for each of them.", *here)
            return ()
        if len(found) > MOST_DEPENDENTS:
            self._fault(f"a key has at most {MOST_DEPENDENTS} of them.", *here)
        rows = [self._dependent(one, *here, number) for number, one in enumerate(found)]
        for what in ("name", "agent"):
            said: set[str] = set()
            for number, row in enumerate(rows):
                if row[what] and row[what] in said:
                    self._fault(f"{row[what]} stands there twice.", *here, number, what)
                said.add(row[what])
        return tuple(rows)

    def _dependent(self, found: Mapping[str, JSON], *at: str | int) -> Mapping[str, JSON]:
        self._only(found, _OF_DEPENDENT, *at)
        agent = self._value(_text, found.get("agent", ""), *at, "agent") or ""
        usual = "reads" if agent else BY_HAND
        health = self._value(_health, found.get("health", usual), *at, "health") or usual
        if not agent and health not in _WITHOUT_AGENT:
            text = "without an agent a person says so, or it is asked: by_hand or probed."
            self._fault(text, *at, "health")
        return {
            "name": self._value(_title, found.get("name", ""), *at, "name") or "",
            "agent": agent,
            "health": health,
            "wave": self._value(_number(0, MOST_WAVE), found.get("wave", 0), *at, "wave"),
            "cache_s": self._value(
                _number(0, MOST_CACHE_S), found.get("cache_s", 0), *at, "cache_s"
            ),
        }

    def _only(self, table: Mapping[str, JSON], known: tuple[str, ...], *at: str | int) -> None:
        """Note each name that is none of the known ones."""
        for name in table:
            if name in known:
                continue
            if name in _FIXED and known is FIELDS:
                text = f"{name} is settled when a key is asked for; no file changes it."
            else:
                text = f"there is no {name} here.{nearest(name, known)}"
            self._fault(text, *at, name)

    def _value(self, rule: Callable[[JSON], JSON], value: JSON, *at: str | int) -> JSON:
        """Return a value in its one form, or None after noting what is wrong with it."""
        try:
            return rule(value)
        except ValueError as error:
            self._fault(f"{error}", *at)
            return None

    def _fault(self, text: str, *at: str | int) -> None:
        shown = ".".join(str(part + 1) if isinstance(part, int) else part for part in at)
        self.faults.append(f"{self.where}:{self.lines.of(*at)}: {shown}: {text}")


def _key_name(value: JSON) -> str:
    return naming.key_name(value)


def _text(value: JSON) -> str:
    if not isinstance(value, str) or len(value) > MOST_NAME:
        raise _Wrong(f"this is a text of at most {MOST_NAME} characters.")
    return value.strip()


def _title(value: JSON) -> str:
    title = _text(value)
    if not title:
        raise _Wrong("it is not left empty.")
    return title


def _health(value: JSON) -> str:
    return _choice(value, HEALTHS)


def _delivery(value: JSON) -> str:
    return _choice(value, _DELIVERIES)


def _choice(value: JSON, known: tuple[str, ...]) -> str:
    if value not in known:
        raise _Wrong(f"this is one of {', '.join(known)}.{nearest(str(value), known)}")
    return str(value)


def _number(least: int, most: int) -> Callable[[JSON], int]:
    def read(value: JSON) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _Wrong(f"this is a whole number from {least:,} to {most:,}.")
        return value

    return read


def _words(rule: Callable[[str], tuple[str, ...]], most: int) -> Callable[[JSON], tuple[str, ...]]:
    def read(value: JSON) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise _Wrong('this is a list of texts, for example ["one", "two"].')
        found = {plain for one in value for plain in rule(one)}
        if len(found) > most:
            raise _Wrong(f"there are at most {most} of them.")
        return tuple(sorted(found))

    return read


_READ: Mapping[str, Callable[[JSON], JSON]] = {
    "delivery_mode": _delivery,
    "allowed_hosts": _words(naming.hosts, MOST_HOSTS),
    "volume_per_day": _number(1, MOST_CALLS),
    "labels": _words(naming.labels, MOST_LABELS),
}
