"""The flush between tests gets through although processes that outlive a test work on."""

from __future__ import annotations

import threading

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import connection, transaction

from keyvault.audit.models import Event

pytestmark = pytest.mark.django_db(transaction=True)


def _read_on(tables: list[str], holds: threading.Event, done: threading.Event) -> None:
    """Read one table, and the others while the flush is under way, in an order of its own."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f'SELECT count(*) FROM "{tables[-1]}"')
            holds.set()
            assert done.wait(60), "the flush waited for a reader"
            for table in tables:
                cursor.execute(f'SELECT count(*) FROM "{table}"')
    finally:
        connection.close()


def test_a_flush_empties_every_table_and_waits_for_no_reader(cast):
    tables = [Group._meta.db_table, Event._meta.db_table]
    holds, done = threading.Event(), threading.Event()
    reader = threading.Thread(target=_read_on, args=(tables, holds, done))
    reader.start()
    assert holds.wait(60)

    call_command("flush", interactive=False, verbosity=0, reset_sequences=False)

    done.set()
    reader.join()
    assert not Group.objects.exists()
    assert not Event.objects.exists()
    assert Permission.objects.exists()
