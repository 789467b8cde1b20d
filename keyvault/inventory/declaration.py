"""What somebody declares when asking for a key: the form's and the plan's common shape (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self
from uuid import UUID

JSON = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One key as it is asked for. Slugs and names are in their one form already.

    volume_per_day: calls. lifetime_days: from creation to expiry. cadence_days:
    how long one value of the key lasts. calendar: the fixed day on which the next one
    comes, as `calendars` writes it; empty for any day. external_input: whether the agent that
    holds the key reads text from outside, which may try to steer it.
    """

    name: str
    title: str
    environment: str
    connection: str
    team: str
    purpose: str
    options: Mapping[str, str] = field(default_factory=dict)
    backup_owner: UUID | None = None
    allowed_hosts: tuple[str, ...] = ()
    volume_per_day: int = 1000
    external_input: bool = False
    delivery_mode: str = "reveal"
    labels: tuple[str, ...] = ()
    lifetime_days: int = 90
    cadence_days: int = 30
    calendar: str = ""

    def to_json(self) -> dict[str, JSON]:
        """Return the declaration as plain JSON values; what nobody declared is left out."""
        body = asdict(self) | {
            "options": dict(self.options),
            "backup_owner": str(self.backup_owner) if self.backup_owner else None,
            "allowed_hosts": list(self.allowed_hosts),
            "labels": list(self.labels),
        }
        # Requests of before there were calendars keep the plan that people have signed.
        return body if self.calendar else {name: body[name] for name in body if name != "calendar"}

    @classmethod
    def from_json(cls, body: Mapping[str, JSON]) -> Self:
        """Rebuild a declaration. Raises ValueError on another shape."""
        body = {"calendar": "", **body}
        if set(body) != set(cls.__dataclass_fields__):
            raise ValueError("The stored declaration has other fields than a declaration.")
        backup = body["backup_owner"]
        return cls(
            **body
            | {
                "backup_owner": UUID(backup) if backup else None,
                "allowed_hosts": tuple(body["allowed_hosts"]),
                "labels": tuple(body["labels"]),
            }
        )
