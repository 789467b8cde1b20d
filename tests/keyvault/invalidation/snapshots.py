"""The snapshots of PostgreSQL by which a gateway says what it has heard."""

from __future__ import annotations

from django.db import connection

# A snapshot before the first transaction. One taken inside a test's own transaction would not
# do: PostgreSQL leaves a transaction out of its own snapshot's list of those in progress, so
# that it counts as visible as soon as any later one, of whatever database, has ended.
NOTHING = "3:3:"


def everything() -> str:
    """Return the snapshot of what is committed so far; to be called outside a transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        (found,) = cursor.fetchone()
    return str(found)
