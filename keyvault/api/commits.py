"""Notice whether a block of code has committed a change, whatever it raised afterwards.

Who repeats a call needs to know that and nothing else. An error does not tell:
the same one may be raised before the commit and after it. So the statements
are watched: the first that writes leaves a note that the commit itself signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import InterfaceError, OperationalError, connection

_READS = ("SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET ", "SHOW")
# What the server says when it ends the connection, so that it may have committed all the same.
_ENDS = ("08", "57P")


@dataclass(slots=True)
class Commits:
    """What is known of a block: whether it wrote, and whether that was committed."""

    has_written: bool = False
    has_committed: bool = False

    def is_clean(self, error: Exception) -> bool:
        """Say whether a block that raised this error has certainly changed nothing.

        Where the connection broke after a write, nobody knows how the commit ended.
        """
        return not self.has_committed and not (self.has_written and _is_broken(error))

    def _sign(self) -> None:
        self.has_committed = True

    def _watch(self, execute: Callable[..., Any], *call: Any) -> Any:  # noqa: ANN401 - Django's own.
        sql = str(call[0]).lstrip(" (\n").upper()
        if not sql.startswith(_READS):
            self.has_written = True
            # Before the callbacks of whatever follows, which may fail. Outside of a transaction
            # it is called at once, although the statement is still to come.
            connection.on_commit(self._sign)
        return execute(*call)


@contextmanager
def watched() -> Iterator[Commits]:
    """Watch the statements of the block on this thread's connection."""
    found = Commits()
    with connection.execute_wrapper(found._watch):  # noqa: SLF001 - its own class.
        yield found


def _is_broken(error: Exception) -> bool:
    """Say whether an error is that of a connection, and not one that the server answered with."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    state = getattr(error.__cause__, "sqlstate", None)
    return state is None or state.startswith(_ENDS)
