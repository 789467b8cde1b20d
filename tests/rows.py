"""Rows that many tests begin with: made once by the product's services, then put back in one statement.

Making the cast takes 177 statements; putting it back takes two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from django.db import connection, models

from keyvault.audit.models import Event

# What an event gets from the database is right only anew.
FRESH = {Event: ("at", "xact")}


class Rows:
    """The rows that `make` adds to some tables, moved in time and with other ids of `renamed`.

    `make(then)` does the same each time and finds nothing of its own. Sealed values are
    bound to other ids than those of `renamed`, or could not be opened again.
    """

    def __init__(
        self,
        make: Callable[[datetime], None],
        tables: Sequence[type[models.Model]],
        renamed: type[models.Model] | None = None,
    ) -> None:
        self._make, self._tables, self._renamed = make, tables, renamed
        self._kept: dict[str, str] = {}
        self._ids: list[str] = []
        self._then: datetime | None = None

    def put(self, then: datetime) -> None:
        """Fill the tables as of `then`."""
        if self._then is None:
            before = {table: self._known(table) for table in self._tables}
            self._make(then)
            self._keep(then, before)
        else:
            self._again(then)

    def _known(self, table: type[models.Model]) -> list[str]:
        return [str(pk) for pk in table.objects.values_list("pk", flat=True)]

    def _keep(self, then: datetime, before: Mapping[type[models.Model], list[str]]) -> None:
        self._then = then
        self._ids = self._known(self._renamed) if self._renamed else []
        with connection.cursor() as cursor:
            for table in self._tables:
                name, key = table._meta.db_table, table._meta.pk.column
                cursor.execute(
                    f'SELECT jsonb_agg(to_jsonb(row))::text FROM "{name}" row'
                    f' WHERE "{key}"::text <> ALL(%s)',
                    [before[table]],
                )
                self._kept[name] = cursor.fetchone()[0] or "[]"

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
