"""Rows that many tests begin with: made once by the product's services, then put back in one statement.

Making the cast takes 177 statements; putting it back takes two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import uuid4

from django.db import connection, models

from keyvault.audit.models import Event

# What an event gets from the database is right only anew.
FRESH = {Event: ("at", "xact")}


class Rows:
    """The rows of some tables as `make` left them, moved in time and with other ids of `renamed`.

    `make(then)` fills the tables, which hold nothing else. Sealed values are bound to
    other ids than those of `renamed`, or could not be opened again.
    """

    def __init__(
        self,
        make: Callable[[datetime], None],
        tables: Sequence[type[models.Model]],
        renamed: type[models.Model],
    ) -> None:
        self._make, self._tables, self._renamed = make, tables, renamed
        self._kept: dict[str, str] = {}
        self._ids: list[str] = []
        self._then: datetime | None = None

    def put(self, then: datetime) -> None:
        """Fill the tables as of `then`."""
        if self._then is None:
            is_alone = not any(table.objects.exists() for table in self._tables)
            self._make(then)
            if is_alone:
                self._keep(then)
        else:
            self._again(then)

    def _keep(self, then: datetime) -> None:
        self._then = then
        self._ids = [str(pk) for pk in self._renamed.objects.values_list("pk", flat=True)]
        with connection.cursor() as cursor:
            for table in self._tables:
                name = table._meta.db_table
                cursor.execute(f'SELECT jsonb_agg(to_jsonb(row))::text FROM "{name}" row')
                self._kept[name] = cursor.fetchone()[0]

    def _again(self, then: datetime) -> None:
        others = {id_: str(uuid4()) for id_ in self._ids}
        words = [self._statement(table) for table in self._tables]
        values: list[object] = []
        for table in self._tables:
            rows = self._kept[table._meta.db_table]
            for old, new in others.items():
                rows = rows.replace(old, new)
            values += [then - self._then] * len(self._times(table)) + [rows]
        with connection.cursor() as cursor:
            cursor.execute(";\n".join(words), values)

    def _statement(self, table: type[models.Model]) -> str:
        name = table._meta.db_table
        times = self._times(table)
        columns = [
            field.column
            for field in table._meta.local_concrete_fields
            if field.name not in FRESH.get(table, ())
        ]
        taken = [f'"{column}" + %s' if column in times else f'"{column}"' for column in columns]
        into = ", ".join(f'"{column}"' for column in columns)
        # Times come first among the values, in the order of the columns.
        return (
            f'INSERT INTO "{name}" ({into}) OVERRIDING SYSTEM VALUE SELECT {", ".join(taken)}'
            f' FROM jsonb_populate_recordset(NULL::"{name}", %s)'
        )

    def _times(self, table: type[models.Model]) -> list[str]:
        """Return the columns that hold a moment, in the order of the columns."""
        return [
            field.column
            for field in table._meta.local_concrete_fields
            if isinstance(field, models.DateTimeField) and field.name not in FRESH.get(table, ())
        ]
