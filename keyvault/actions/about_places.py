"""What the acts on places share: how a destination and a target read to those who approve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from approvals.ports import Change
from keyvault.connections import places, selectors
from keyvault.connections.models import Connection
from keyvault.inventory import selectors as inventory
from keyvault.plugins.loading import UnknownKind
from keyvault.plugins.values import Problem

PROTECTED = frozenset({"yes"})
JSON = Any


@dataclass(frozen=True, slots=True)
class Seen:
    """What a check of a place has shown, and when; it is signed with the plan."""

    at: datetime
    problems: tuple[Problem, ...] = ()

    @property
    def is_ready(self) -> bool:
        """Say whether nothing hinders writing there."""
        return not any(problem.is_fatal for problem in self.problems)

    def to_json(self) -> dict[str, JSON]:
        """Return it as plain JSON values."""
        found = [problem.to_json() for problem in self.problems]
        return {"at": self.at.astimezone(UTC).isoformat(), "problems": found}

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Self:
        """Rebuild what `to_json` returned."""
        at = datetime.fromisoformat(data["at"])
        return cls(at, tuple(Problem.from_json(found) for found in data["problems"]))

    def row(self) -> Change:
        """Return the row of a plan that says what was seen, with the mend of each problem."""
        words = " ".join(f"{found.sentence} {found.mend}" for found in self.problems)
        when = self.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
        shown = words or "Nothing stands in the way."
        return Change(f"Seen there, {when}", "", shown, "Not ready" if not self.is_ready else "")


def attributes(
    key: Mapping[str, frozenset[str]], connection: Connection
) -> dict[str, frozenset[str]]:
    """Return what policies match on: the key's attributes, and where its value is to lie.

    A destination that is kept for no environment is read in all of them, so that
    the act is a protected one as soon as one of those is.
    """
    kept_for = connection.environment
    reached = [kept_for] if kept_for else inventory.environments()
    is_protected = any(row.protected for row in reached)
    return {
        **key,
        "destination": frozenset({connection.provider}),
        "protected": PROTECTED if is_protected else key["protected"],
    }


def rows(connection: Connection, target: Mapping[str, str], *, is_new: bool) -> tuple[Change, ...]:
    """Return the rows of a plan that name a place, as it will be or as it is.

    Settings whose plug-in is gone go by their names.
    """
    try:
        labels = {entry.name: entry.label for entry in selectors.target_schema(connection.provider)}
    except UnknownKind:
        labels = {}
    facts = {"Destination": f"{connection.title} ({address(connection)})"}
    facts |= {labels.get(name, name): value for name, value in target.items() if value}
    return tuple(Change(label, "" if is_new else fact, fact) for label, fact in facts.items())


def address(connection: Connection) -> str:
    """Return where a destination leads, in one word."""
    return places.named(places.leads_to(connection))
