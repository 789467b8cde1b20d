"""The bytes of one event: what its leaf covers, what an export carries, what a verifier reads.

Pure. Every column of the event stands in these bytes, so nothing that a page
shows can be changed without changing the leaf.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from approvals import canonical
from keyvault.audit.merkle import leaf_hash

VERSION = 1


class Entry(NamedTuple):
    """One event; the names and their order are those of its table's columns."""

    id: UUID
    at: datetime
    acted_at: datetime
    event: str
    outcome: str
    actor_kind: str
    actor_id: str
    actor_label: str
    on_behalf_of: str
    subject_kind: str
    subject_id: str
    subject_label: str
    request_id: UUID | None
    correlation_id: str
    ip: str
    session: str
    user_agent: str
    fields: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the event as plain JSON values. Times are UTC, to the microsecond."""
        return {
            "v": VERSION,
            "id": str(self.id),
            "at": _time(self.at),
            "acted_at": _time(self.acted_at),
            "event": self.event,
            "outcome": self.outcome,
            "actor": {"kind": self.actor_kind, "id": self.actor_id, "label": self.actor_label},
            "on_behalf_of": self.on_behalf_of,
            "subject": {
                "kind": self.subject_kind,
                "id": self.subject_id,
                "label": self.subject_label,
            },
            "request_id": str(self.request_id) if self.request_id else None,
            "correlation_id": self.correlation_id,
            "ip": self.ip,
            "session": self.session,
            "user_agent": self.user_agent,
            "fields": self.fields,
        }

    def leaf(self) -> bytes:
        """Return the leaf hash over the canonical bytes."""
        return leaf_hash(canonical.dumps(self.to_json()))


COLUMNS = Entry._fields


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
