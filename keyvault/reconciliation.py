"""Compare the rows that give people power with the ledger: each must have its one event.

No key covers a membership or a grant: whoever writes the database directly can
add one. The services write each together with its event, so that a row without
one was written by somebody else. An event can be forged as well; it then stays
in the ledger for good, where people and exports read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connection

# event: what has to have one, and what it says of itself, in the same words.
_ACCOUNTS = ("SELECT id::text FROM keyvault_user", "subject_id")
_STAYS = (
    "SELECT m.user_id::text || ' ' || g.name"
    " FROM keyvault_membership m JOIN auth_group g ON g.id = m.group_id"
)
_STAY = "subject_id || ' ' || (fields ->> 'group')"
_GRANTS = (
    "SELECT concat_ws(' ', key_id, permission, coalesce(user_id::text, group_id::text, agent_id::text))"
    " FROM keyvault_grant"
)
_GRANT = "concat_ws(' ', subject_id, fields ->> 'permission', fields ->> 'holder')"
_RULES: Mapping[str, tuple[str, str]] = {
    "person.created": _ACCOUNTS,
    "membership.joined": (_STAYS, _STAY),
    "membership.left": (f"{_STAYS} WHERE m.left_at IS NOT NULL", _STAY),
    "grant.given": (_GRANTS, _GRANT),
    "grant.ended": (f"{_GRANTS} WHERE ended_at IS NOT NULL", _GRANT),
}
_COMPARE = """
WITH facts AS (SELECT said, count(*) AS n FROM ({facts}) AS rows (said) GROUP BY said),
    events AS (
        SELECT {says} AS said, count(*) AS n FROM keyvault_event WHERE event = %s GROUP BY 1
    )
SELECT coalesce(sum(greatest(coalesce(f.n, 0) - coalesce(e.n, 0), 0)), 0),
    coalesce(sum(greatest(coalesce(e.n, 0) - coalesce(f.n, 0), 0)), 0)
FROM facts f FULL JOIN events e USING (said)
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """How many rows have no event of this name, and how many events have no row."""

    event: str
    rows: int
    events: int

    @property
    def sentence(self) -> str:
        """Say what was found and where to look."""
        return (
            f"{self.rows} rows lack their event {self.event} and {self.events} such events lack "
            "their row: somebody wrote to the database past keyvault. Compare People and the "
            f"keys' Access with the ledger, event:{self.event}."
        )


def differences() -> Sequence[Difference]:
    """Return where accounts, memberships and grants do not agree with the ledger.

    Reads every event of five names, which takes seconds in a ledger of millions.
    """
    found = [_difference(event) for event in _RULES]
    return [one for one in found if one.rows or one.events]


def _difference(event: str) -> Difference:
    facts, says = _RULES[event]
    with connection.cursor() as cursor:
        cursor.execute(_COMPARE.format(facts=facts, says=says), [event])
        rows, events = cursor.fetchone()
    return Difference(event, int(rows), int(events))
