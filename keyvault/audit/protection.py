"""Say what stands between this process and a rewritten ledger, as found, not as configured."""

from __future__ import annotations

from enum import StrEnum

from django.db import connection

from keyvault.audit.models import Checkpoint, Event, LedgerLeaf, LedgerNode

TABLES = tuple(model._meta.db_table for model in (Event, LedgerLeaf, LedgerNode, Checkpoint))  # noqa: SLF001 - the documented way to a table's name.
_TRIGGERS = 2  # One refuses UPDATE and DELETE, one refuses TRUNCATE.


class Protection(StrEnum):
    """How the ledger's tables are guarded; the value is the word on the page."""

    ROLE_AND_TRIGGER = "role and trigger"
    TRIGGER = "trigger only"
    NONE = "nothing"


def found() -> Protection:
    """Return how this process's own database role is kept from rewriting the ledger."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_trigger WHERE tgrelid = ANY(%s::regclass[])"
            " AND tgenabled IN ('O', 'A') AND tgfoid = to_regproc('keyvault_refuse_change')",
            [list(TABLES)],
        )
        has_triggers = cursor.fetchone()[0] == _TRIGGERS * len(TABLES)
        cursor.execute(
            "SELECT bool_or(has_table_privilege(name, 'UPDATE, DELETE, TRUNCATE, TRIGGER')"
            " OR pg_has_role(relowner, 'USAGE'))"
            " FROM unnest(%s::text[]) AS name JOIN pg_class ON oid = name::regclass",
            [list(TABLES)],
        )
        may_rewrite = cursor.fetchone()[0]
    if not has_triggers:
        return Protection.NONE
    return Protection.TRIGGER if may_rewrite else Protection.ROLE_AND_TRIGGER
