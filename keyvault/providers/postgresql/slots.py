"""The two login roles of one key, and the statements that change them.

A role's comment says which attempt its password belongs to, and is the only
memory at the server: `kv-<op>-<n>` while it works, with `suspended` or
`revoked` before it afterwards. Every change first takes a lock and compares
that comment with the one expected, so that a worker that wakes up late finds
another comment and changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import LiteralString

from psycopg import sql

from keyvault.providers.base import Conflict, Issued, RemoteKey
from keyvault.providers.postgresql.session import Cursor, Row

SUFFIXES = ("_a", "_b")
ABSENT = "absent"
_SAYS_INHERIT = 160000
_COMMENT = re.compile(r"(?:(suspended|revoked) )?(kv-.+-\d+)")
_COLUMNS: LiteralString = """
    r.rolname,
    shobj_description(r.oid, 'pg_authid'),
    r.rolcanlogin,
    r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls,
    ARRAY(SELECT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
           WHERE m.member = r.oid ORDER BY 1),
    (SELECT count(*) FROM pg_stat_activity s WHERE s.usesysid = r.oid)
"""


class Mark(StrEnum):
    """What a role's comment says about the credential in it."""

    NONE = ""
    LIVE = "live"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Slot:
    """One login role as the server describes it. `comment` is ABSENT for a missing role."""

    role: str
    comment: str
    can_login: bool = False
    is_privileged: bool = False
    member_of: tuple[str, ...] = ()
    sessions: int = 0

    @property
    def mark(self) -> Mark:
        """What the comment says; FOREIGN for a role that keyvault did not make."""
        if self.comment == ABSENT:
            return Mark.NONE
        found = _COMMENT.fullmatch(self.comment)
        if found is None:
            return Mark.FOREIGN
        return Mark(found[1]) if found[1] else Mark.LIVE

    @property
    def tag(self) -> str | None:
        """The tag of the last credential in this slot."""
        found = _COMMENT.fullmatch(self.comment)
        return found[2] if found else None

    def holds(self, tag: str) -> bool:
        """Say whether the credential of `tag` is still in this slot, working or suspended."""
        return self.tag == tag and self.mark in {Mark.LIVE, Mark.SUSPENDED}

    def key(self) -> RemoteKey:
        """Return the credential in this slot as the protocol names it."""
        return RemoteKey(
            remote_id=remote_id(self.role, self.tag or ""),
            tag=self.tag,
            slot=self.role,
            is_enabled=self.can_login,
            hint=self.role,
        )


def remote_id(role: str, tag: str) -> str:
    """Return an id that stays unique when the slot is used again."""
    return f"{role}/{tag}"


def role_of(key: RemoteKey) -> tuple[str, str]:
    """Return the role and the tag that a remote id names."""
    role, _, tag = key.remote_id.partition("/")
    return role, tag


def read(cursor: Cursor, role: str) -> Slot:
    """Return one slot, also when the role is missing."""
    cursor.execute(
        sql.SQL("SELECT {} FROM pg_roles r WHERE r.rolname = %s").format(sql.SQL(_COLUMNS)),
        (role,),
    )
    row = cursor.fetchone()
    return _slot(row) if row else Slot(role, ABSENT)


def listing(cursor: Cursor, *, after: str, limit: int) -> list[Slot]:
    """Return slots that carry our tag and still hold a credential, ordered by role name."""
    cursor.execute(
        sql.SQL(
            "SELECT {} FROM pg_roles r WHERE r.rolname > %s::name"
            " AND shobj_description(r.oid, 'pg_authid') ~ '^(suspended )?kv-.+-[0-9]+$'"
            " ORDER BY r.rolname LIMIT %s"
        ).format(sql.SQL(_COLUMNS)),
        (after, limit),
    )
    return [_slot(row) for row in cursor.fetchall()]


def _slot(row: Row) -> Slot:
    role, comment, can_login, is_privileged, groups, sessions = row
    return Slot(role, comment or "", can_login, is_privileged, tuple(groups), sessions)


def choose(slots: Sequence[Slot], owner: str, current: Issued | None) -> Slot:
    """Return the slot that the next credential may take. Raises Conflict. Pure."""
    busy: list[str] = []
    for slot in slots:
        reason = _why_not(slot, owner, current)
        if not reason:
            return slot
        busy.append(f"{slot.role} {reason}")
    raise Conflict(f"Both login roles are taken: {'; '.join(busy)}.")


def _why_not(slot: Slot, owner: str, current: Issued | None) -> str:
    if slot.mark is Mark.FOREIGN:
        return "exists and was not made by keyvault"
    if slot.is_privileged or set(slot.member_of) - {owner}:
        return "has rights beyond its owner role"
    if current is not None and slot.role == current.slot:
        return "is in use"
    if slot.mark in {Mark.LIVE, Mark.SUSPENDED}:
        return f"holds {slot.tag}"
    if slot.sessions:
        return f"still has {slot.sessions} open sessions"
    return ""


def lock(cursor: Cursor, role: str) -> None:
    """Let changes to one slot take turns until the end of the transaction."""
    cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"keyvault/{role}",))


def make(cursor: Cursor, role: str) -> None:
    """Create a role that cannot log in yet."""
    cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))


def enter(cursor: Cursor, role: str, owner: str) -> None:
    """Make the role a member of its owner role, and act as that role in each session."""
    names = {"role": sql.Identifier(role), "owner": sql.Identifier(owner)}
    cursor.execute(sql.SQL("GRANT {owner} TO {role}").format(**names))
    cursor.execute(
        sql.SQL("ALTER ROLE {} SET role TO {}").format(sql.Identifier(role), sql.Literal(owner))
    )


def arm(cursor: Cursor, role: str, *, verifier: str, limit: int) -> None:
    """Let the role log in with the password behind `verifier`; `limit` -1 means no limit."""
    cursor.execute(
        sql.SQL("ALTER ROLE {} LOGIN CONNECTION LIMIT {} PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(limit), sql.Literal(verifier)
        )
    )


def disarm(cursor: Cursor, role: str) -> None:
    """Refuse new logins and forget the password."""
    cursor.execute(sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(role)))


def switch(cursor: Cursor, role: str, *, on: bool) -> None:
    """Allow or refuse new logins and keep the password."""
    word = sql.SQL("LOGIN") if on else sql.SQL("NOLOGIN")
    cursor.execute(sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(role), word))


def remark(cursor: Cursor, role: str, comment: str) -> None:
    """Write down which credential the role holds."""
    cursor.execute(
        sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(role), sql.Literal(comment))
    )


def end_sessions(cursor: Cursor, role: str) -> int:
    """End the role's sessions and return how many were open before.

    From PostgreSQL 16 on, having made a role does not give the right to end
    its sessions. The right is taken for this transaction only: kept, it would
    let the admin credential read the owner's data.
    """
    cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (role,))
    row = cursor.fetchone()
    if not row or not row[0]:
        return 0
    cursor.execute("SELECT pg_has_role(current_user, %s, 'USAGE')", (role,))
    may = cursor.fetchone()
    borrowed = not (may and may[0])
    if borrowed:
        # Before 16 inheriting is an attribute of the member and cannot be said here.
        with_inherit = cursor.connection.info.server_version >= _SAYS_INHERIT
        clause = sql.SQL(" WITH INHERIT TRUE" if with_inherit else "")
        cursor.execute(sql.SQL("GRANT {} TO CURRENT_USER{}").format(sql.Identifier(role), clause))
    cursor.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s", (role,)
    )
    if borrowed:
        cursor.execute(sql.SQL("REVOKE {} FROM CURRENT_USER").format(sql.Identifier(role)))
    return int(row[0])
