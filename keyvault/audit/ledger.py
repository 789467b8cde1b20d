"""Write one event inside the caller's transaction: no event, no commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import DatabaseError, connection, transaction

from approvals import canonical
from approvals.ports import Actor, Subject
from keyvault.audit import context, entries
from keyvault.audit.events import EVENTS
from keyvault.audit.models import Event, Outcome
from keyvault.crypto import digest

_MASK = "audit mask v1"
_TEXT, _AGENT = 200, 300
_PATIENCE_MS = 2000
_CLEAN_DEPTH = 16
_Value = str | datetime | UUID | None

# The time and the transaction's number are the database's own: their columns have defaults.
_COLUMNS = tuple(name for name in entries.COLUMNS if name != "at")
# PostgreSQL takes the table's lock before it runs any part of an INSERT, so the patience must be
# set by a statement before it. The three go as one message: one round trip, not three.
_INSERT = f"""
SET LOCAL lock_timeout = {_PATIENCE_MS:d};
INSERT INTO {Event._meta.db_table} ({", ".join(_COLUMNS)})
VALUES ({", ".join(["%s"] * len(_COLUMNS))});
SET LOCAL lock_timeout = DEFAULT
"""  # noqa: S608, SLF001 - constants of this program; the documented way to a table's name.


class UnknownEvent(ValueError):
    """The name, or one of the fields, is not in the closed list of events."""


class NotInTransaction(RuntimeError):
    """`record` was called outside a transaction, where an act could commit without its event."""


class LedgerUnavailable(Exception):
    """The event cannot be written, so the act must not happen. Pages answer 503."""


def record(
    event: str,
    *,
    actor: Actor,
    subject: Subject,
    now: datetime,
    fields: Mapping[str, Any] | None = None,
    outcome: str = Outcome.OK,
    request_id: UUID | None = None,
) -> UUID:
    """Write one event in the caller's transaction and return its id.

    The time of the event is the database's clock; `now` is kept beside it as
    the time by which the caller acted. Raises UnknownEvent, NotInTransaction,
    approvals.canonical.NotCanonical (floats, bytes, secrets) and
    LedgerUnavailable, which the caller lets through so that nothing commits.
    """
    if not transaction.get_connection().in_atomic_block:
        raise NotInTransaction(f"{event} would be recorded outside the transaction of its act")
    id_ = uuid4()
    row: dict[str, _Value] = {
        "id": id_,
        "event": _known(event, fields or {}),
        "acted_at": now,
        "outcome": Outcome(outcome).value,
        "actor_kind": actor.kind,
        "actor_id": _short(actor.id),
        "actor_label": _short(actor.label),
        "subject_kind": subject.kind,
        "subject_id": _short(subject.id),
        "subject_label": _short(subject.label),
        "request_id": request_id,
        "fields": canonical.dumps(_clean(dict(fields or {}), _CLEAN_DEPTH)).decode(),
        **_origin(),
    }
    _insert([row[name] for name in _COLUMNS])
    return id_


def _insert(values: Sequence[_Value]) -> None:
    """Insert, but wait at most two seconds for a table that somebody holds: fail, never hang.

    Not through the ORM, which would compile the same statement anew for every
    event; that took most of the time. Raises LedgerUnavailable.
    """
    try:
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, values)
    except DatabaseError as error:
        # Not every refusal comes from the server and ends the transaction there. This one ends
        # it here, so that a caller who swallows the error still commits nothing.
        transaction.set_rollback(True)
        raise LedgerUnavailable(
            "The ledger cannot be written, so nothing was done. It recovers by itself."
        ) from error


def masked(value: object) -> str:
    """Return a keyed digest to record in place of a sensitive value of any JSON type.

    Equal values of one type give equal digests; 1, "1", true and b"1" differ.
    Raises keyvault.crypto.digest.NoIndexKey when the process is sealed.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        return "hmac-sha256:" + digest.keyed(_MASK, b"bytes:" + bytes(value))
    return "hmac-sha256:" + digest.keyed(_MASK, b"json:" + canonical.dumps(_spelled(value)))


def _spelled(value: object) -> object:
    """Write floats as text, which the canonical form refuses, so that each type can be masked."""
    if isinstance(value, float):
        return {"float": repr(value)}
    if isinstance(value, Mapping):
        return {"object": {str(name): _spelled(part) for name, part in value.items()}}
    if isinstance(value, list | tuple):
        return [_spelled(part) for part in value]
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    return value


def _known(event: str, fields: Mapping[str, Any]) -> str:
    if event not in EVENTS:
        raise UnknownEvent(f"{event} is not in the list of events")
    strange = sorted(set(fields) - EVENTS[event])
    if strange:
        raise UnknownEvent(f"{event} may not carry {', '.join(strange)}")
    return event


def _origin() -> dict[str, str]:
    origin = context.current()
    return {
        "on_behalf_of": _short(origin.on_behalf_of),
        "correlation_id": _short(origin.correlation_id, 64),
        "ip": _short(origin.ip, 45),
        "session": _short(origin.session, 64),
        "user_agent": _short(origin.user_agent, _AGENT),
    }


def _short(text: str, limit: int = _TEXT) -> str:
    text = _storable(text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _storable(text: str) -> str:
    """Show what PostgreSQL cannot store: hostile bytes must not prevent the record of an act."""
    text = text.replace("\x00", "\N{SYMBOL FOR NULL}")
    return text.encode("utf-8", "backslashreplace").decode()


def _clean(value: Any, depth: int) -> Any:  # noqa: ANN401 - any JSON value.
    if isinstance(value, str):
        return _storable(value)
    if depth == 0:
        raise canonical.NotCanonical(f"an event field is nested deeper than {_CLEAN_DEPTH} levels")
    if isinstance(value, dict):
        return {_clean(name, 1): _clean(part, depth - 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(part, depth - 1) for part in value]
    return value
