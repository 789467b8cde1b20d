"""Read a declaration member by member, and say of each fault where it stands."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn, Self

from keyvault.providers.base import JSON, Misconfigured

_CLASS = re.compile(r"([1-5])xx")
_LEAST, _MOST = 100, 599


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a declaration; `where` is its place, such as `create.headers`."""

    where: str
    members: Mapping[str, JSON]

    @classmethod
    def document(cls, text: str) -> Self:
        """Read the whole declaration. Raises Misconfigured."""
        try:
            found = json.loads(text, object_pairs_hook=_members, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise Misconfigured(
                "The requests are no JSON, or a member of one of their objects stands twice."
            ) from None
        if not isinstance(found, dict):
            raise Misconfigured("The requests must be one JSON object.")
        return cls("", found)

    def require_known(self, names: Collection[str]) -> None:
        """Raise Misconfigured on a member that has no meaning here, such as a misspelt one."""
        for name in self.members:
            if name not in names:
                known = ", ".join(names)
                raise Misconfigured(f"{self.at(name)} means nothing. Known here: {known}.")

    def at(self, name: str) -> str:
        """Return the place of a member."""
        return f"{self.where}.{name}" if self.where else name

    def get(self, name: str, default: JSON = None) -> JSON:
        """Return a member, or `default` where there is none."""
        return self.members.get(name, default)

    def entry(self, name: str, *, is_needed: bool = False) -> Entry:
        """Return a member that is an object, an empty one where there is none."""
        found = self.members.get(name, None if is_needed else {})
        if not isinstance(found, dict):
            raise Misconfigured(f"{self.at(name)} is needed and must be an object.")
        return Entry(self.at(name), found)

    def word(self, name: str, choices: Collection[str], default: str) -> str:
        """Return a member that is one of the words."""
        found = self.members.get(name, default)
        if not isinstance(found, str) or found not in choices:
            raise Misconfigured(f"{self.at(name)} must be one of: {', '.join(choices)}.")
        return found

    def statuses(self, name: str, default: list[JSON], allowed: Collection[int]) -> frozenset[int]:
        """Return a member that lists HTTP statuses: numbers, or classes such as "2xx".

        allowed: which statuses may have this meaning at all.
        """
        found = self.members.get(name, default)
        if not isinstance(found, list) or not found:
            raise Misconfigured(f'{self.at(name)} must list statuses such as 200 or "2xx".')
        statuses = frozenset(status for part in found for status in self._class(name, part))
        if not statuses <= frozenset(allowed):
            wrong = min(statuses - frozenset(allowed))
            raise Misconfigured(f"{self.at(name)} may not hold {wrong}: it does not mean that.")
        return statuses

    def _class(self, name: str, part: JSON) -> range:
        if isinstance(part, str) and (found := _CLASS.fullmatch(part)):
            first = int(found[1]) * 100
            return range(first, first + 100)
        if isinstance(part, int) and not isinstance(part, bool) and _LEAST <= part <= _MOST:
            return range(part, part + 1)
        raise Misconfigured(f'{self.at(name)} must list statuses such as 200 or "2xx".')


def _members(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Refuse a name that stands twice: a reader would see one, and the other would count."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
