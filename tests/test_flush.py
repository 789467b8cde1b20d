"""The flush between tests gets through although processes that outlive a test work on."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.color import no_style
from django.core.management.sql import sql_flush
from django.db import connection, transaction

from tests.keyvault.gateway.builders import until

pytestmark = pytest.mark.django_db(transaction=True)

WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND query LIKE 'TRUNCATE%%' AND datname = current_database()
"""


def _waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(WAITING)
        return bool(cursor.fetchone()[0])


def _cross(first: str, last: str, holds: threading.Event) -> None:
    """Hold the last table and ask for the first one once the flush holds that and waits for this."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # The one whose patience ends first is the victim: the flush.
            cursor.execute("SET LOCAL deadlock_timeout = '60s'")
            cursor.execute(f'LOCK TABLE "{last}" IN ACCESS SHARE MODE')
            holds.set()
            until(_waits)
            cursor.execute(f'LOCK TABLE "{first}" IN ACCESS SHARE MODE')
    finally:
        connection.close()


def test_a_flush_that_a_deadlock_spoiled_is_done_again():
    Group.objects.create(name="left-over")
    tables = sql_flush(no_style(), connection, reset_sequences=False)[0].split('"')[1::2]
    holds = threading.Event()
    other = threading.Thread(target=_cross, args=(tables[0], tables[-1], holds))
    other.start()
    assert holds.wait(20)
    call_command("flush", interactive=False, verbosity=0, reset_sequences=False)
    other.join()
    assert not Group.objects.exists()
