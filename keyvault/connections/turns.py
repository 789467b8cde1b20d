"""Who may work with a Connection at this moment: a few together, or one renewal alone.

Whoever opens the admin credential holds a lock that others hold too; whoever
renews it holds the lock alone, so that no call runs with a credential that is
just ending. The locks are PostgreSQL's own and fall with the session of their
holder; they stand beside the claims of jobs, which fence what is written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import DatabaseError, OperationalError, connection, transaction

from approvals.ports import Unfinished

# One slow provider must not take every thread of a worker (ROTATION.md rule 11).
AT_ONCE = 4
_WAIT_S = 10.0
_PAUSE_S = 0.1
# A renewal waits this long for others to end their work, and lets nobody new begin meanwhile.
_ALONE_WAIT = "SET LOCAL lock_timeout = '3s'"
# One that sleeps longer than any call has lost its worker: its session ends, and its lock falls.
_WAKEFUL = "SET idle_session_timeout = '90s'; SET idle_in_transaction_session_timeout = '90s'"
_AS_BEFORE = "RESET idle_session_timeout; RESET idle_in_transaction_session_timeout"

_gates: dict[UUID, threading.BoundedSemaphore] = {}
_gates_lock = threading.Lock()


@contextmanager
def turn(connection_id: UUID) -> Iterator[None]:
    """Take one of this process's few places at a Connection. Raises Unfinished."""
    with _gates_lock:
        gate = _gates.setdefault(connection_id, threading.BoundedSemaphore(AT_ONCE))
    if not gate.acquire(timeout=_WAIT_S):
        raise Unfinished("busy", "This Connection has too many calls in flight; it waits its turn.")
    try:
        yield
    finally:
        gate.release()


@contextmanager
def together(connection_id: UUID) -> Iterator[None]:
    """Keep renewals of a Connection's credential away for the block. Raises Unfinished.

    A renewal that waits goes first, so that steady work cannot starve it.
    """
    number, until = _lock(connection_id), time.monotonic() + _WAIT_S
    while not _ask("SELECT pg_try_advisory_lock_shared(%s)", number):
        if time.monotonic() > until:
            raise Unfinished("busy", "The admin credential of this Connection is being renewed.")
        time.sleep(_PAUSE_S)
    try:
        yield
    finally:
        _let_go("SELECT pg_advisory_unlock_shared(%s)", number)


@contextmanager
def alone(connection_id: UUID) -> Iterator[None]:
    """Keep all other work with a Connection's credential away for the block. Raises Unfinished."""
    number = _lock(connection_id)
    try:
        with transaction.atomic():
            _ask(_ALONE_WAIT)
            _ask("SELECT pg_advisory_lock(%s)", number)
    except OperationalError:
        raise Unfinished("busy", "Others work with this Connection; it waits its turn.") from None
    try:
        _ask(_WAKEFUL)
        yield
    finally:
        _let_go("SELECT pg_advisory_unlock(%s)", number)
        _let_go(_AS_BEFORE)


def _lock(connection_id: UUID) -> int:
    """Return the number of a Connection's lock: half of its random id, as a signed integer."""
    return int.from_bytes(connection_id.bytes[:8], "big", signed=True)


def _ask(statement: str, *values: int) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        row = cursor.fetchone() if cursor.description else None
    return row[0] if row else None


def _let_go(statement: str, *values: int) -> None:
    try:
        _ask(statement, *values)
    except DatabaseError:
        # The session is gone, and with it what it held.
        connection.close()
