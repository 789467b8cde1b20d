"""Compare business tables with the ledger: each fact has exactly one event (R54).

Each rule names the rows that a kind of event must have been written for. The
two sides are compared as multisets of ids, so that one event too many is found
as surely as one too few.
"""

from __future__ import annotations

from collections import Counter

from django.db import connection

# event: the ids of the facts, and the column of the event that holds the same id.
RULES = {
    "request.submitted": ("SELECT id FROM approvals_request", "request_id"),
    "request.decided": ("SELECT request_id FROM approvals_decision", "request_id"),
    "request.commented": ("SELECT request_id FROM approvals_comment", "request_id"),
    "request.revised": (
        "SELECT request_id FROM approvals_revision WHERE number > 1",
        "request_id",
    ),
    "request.withdrawn": (
        "SELECT id FROM approvals_request WHERE state = 'withdrawn'",
        "request_id",
    ),
    "request.expired": ("SELECT id FROM approvals_request WHERE state = 'expired'", "request_id"),
    "request.done": ("SELECT id FROM approvals_request WHERE state = 'done'", "request_id"),
    "request.failed": ("SELECT id FROM approvals_request WHERE state = 'failed'", "request_id"),
    "key.requested": ("SELECT id FROM keyvault_key", "subject_id"),
    "key.revoked": ("SELECT id FROM keyvault_key WHERE state = 'revoked'", "subject_id"),
    "grant.given": ("SELECT key_id FROM keyvault_grant", "subject_id"),
    "grant.ended": ("SELECT key_id FROM keyvault_grant WHERE ended_at IS NOT NULL", "subject_id"),
    "lease.asked": ("SELECT key_id FROM keyvault_lease", "subject_id"),
    "lease.taken": (
        "SELECT key_id FROM keyvault_lease WHERE taken_at IS NOT NULL",
        "subject_id",
    ),
    "lease.returned": (
        "SELECT key_id FROM keyvault_lease WHERE state = 'returned'",
        "subject_id",
    ),
    "lease.withdrawn": (
        "SELECT key_id FROM keyvault_lease WHERE state = 'withdrawn'",
        "subject_id",
    ),
    "lease.expired": ("SELECT key_id FROM keyvault_lease WHERE state = 'expired'", "subject_id"),
    "lease.failed": ("SELECT key_id FROM keyvault_lease WHERE state = 'failed'", "subject_id"),
    "membership.joined": ("SELECT user_id FROM keyvault_membership", "subject_id"),
    "membership.left": (
        "SELECT user_id FROM keyvault_membership WHERE left_at IS NOT NULL",
        "subject_id",
    ),
    "person.created": ("SELECT id FROM keyvault_user", "subject_id"),
    "connection.created": ("SELECT id FROM keyvault_connection", "subject_id"),
    "finding.opened": ("SELECT id FROM keyvault_finding", None),
}


def differences(
    *, leave_out: frozenset[str] = frozenset()
) -> dict[str, tuple[Counter[str], Counter[str]]]:
    """Return, for each rule that is broken, the facts without event and the events without fact."""
    found = {}
    for event in sorted(set(RULES) - leave_out):
        facts, column = RULES[event]
        stated = _ids(f"SELECT {column or 'NULL'} FROM keyvault_event WHERE event = %s", [event])
        actual = _ids(facts)
        if column is None:
            stated, actual = Counter({"": stated.total()}), Counter({"": actual.total()})
        if stated != actual:
            found[event] = (actual - stated, stated - actual)
    return found


def _ids(query: str, values: list[str] | None = None) -> Counter[str]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return Counter(str(row[0]) for row in cursor.fetchall())
