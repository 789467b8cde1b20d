"""Count the wraps of a key-encryption key across all processes, in blocks.

A process takes a block of wraps from a database sequence and uses it up in
memory. `nextval` is never rolled back and a block that a process did not use
up is lost, so the count is only ever too high: a key is retired early, never
late. NIST SP 800-38D section 8.3 allows 2^32 uses with random nonces; a quarter
of that is the limit here.
"""

from __future__ import annotations

import os
import threading

from django.db import connection

from keyvault.crypto.keyring import Exhausted, NoKey

BLOCK = 4096
LIMIT = 1 << 30
_SQL = """
SELECT nextval('keyvault_wrap_block'), (SELECT first_block FROM keyvault_kek WHERE id = %s)
"""


class DatabaseBudget:
    """The budget that production uses (keyvault.crypto.keyring.Budget)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[bytes, int] = {}
        # Two processes must not use up one block.
        os.register_at_fork(after_in_child=self.forget)

    def spend(self, kek_id: bytes) -> None:
        """Count one wrap. Raises Exhausted, and NoKey for a key that is not registered."""
        with self._lock:
            if not self._left.get(kek_id):
                self._left[kek_id] = _allocate(kek_id)
            self._left[kek_id] -= 1

    def forget(self) -> None:
        """Give up what is left of the blocks in hand."""
        self._lock = threading.Lock()
        self._left = {}


def next_block() -> int:
    """Return the number of the next block, which is thereby taken."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('keyvault_wrap_block')")
        return int(cursor.fetchone()[0])


def _allocate(kek_id: bytes) -> int:
    with connection.cursor() as cursor:
        cursor.execute(_SQL, [kek_id.hex()])
        block, first = cursor.fetchone()
    if first is None:
        raise NoKey("This key-encryption key is not registered in the database.")
    if (block - first + 1) * BLOCK > LIMIT:
        raise Exhausted(
            "The key-encryption key has sealed as many values as it may. "
            "Add a new key and run: keyvault rewrap"
        )
    return BLOCK
