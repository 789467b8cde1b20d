"""The PostgreSQL provider: what each call of the protocol does, step by step."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    JSON,
    Ambiguous,
    Attempt,
    Capabilities,
    Conflict,
    Context,
    Field,
    Issued,
    LastUse,
    Misconfigured,
    NotFound,
    Page,
    Problem,
    ProviderError,
    Recovery,
    RemoteKey,
    Shape,
    Transient,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.postgresql import preflight, schema, slots
from keyvault.providers.postgresql.renewal import AdminPassword
from keyvault.providers.postgresql.scram import verifier
from keyvault.providers.postgresql.session import Login, Rejected, admin, changing, reading

if TYPE_CHECKING:
    from keyvault.providers.postgresql.session import Cursor

_PAGE = 500
_PASSWORD_BYTES = 32
_SALT_BYTES = 16
_PAUSE_S = 0.05
_PREFIX = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,60}")
_ROLE_BYTES = 63  # NAMEDATALEN - 1; PostgreSQL would cut a longer name in silence.


class PostgreSQL(AdminPassword):
    """Issues passwords for two login roles that act, in turn, as one owner role."""

    kind: ClassVar[str] = "postgresql"
    title: ClassVar[str] = "PostgreSQL role"
    value_field: ClassVar[str] = "password"
    takes_listed: ClassVar[bool] = False
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return two slots, repaired by replay."""
        del ctx
        return Capabilities(
            Shape.SLOTS,
            Recovery.CLIENT,
            max_live=len(slots.SUFFIXES),
            can_suspend=True,
            reports_last_use=True,
            can_kill_sessions=True,
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what the server, the admin role or the owner role lack."""
        return preflight.problems(ctx)

    def propose(self, config: Mapping[str, JSON], name: str) -> Mapping[str, str]:
        """Return a login name made from the key's name, and the Connection's owner role."""
        return schema.proposed(config, name)

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Return the two login roles. Raises Misconfigured on settings that cannot work."""
        _owner(ctx)
        _limit(ctx)
        return tuple(_prefix(ctx) + suffix for suffix in slots.SUFFIXES)

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Choose the free slot and the password.

        Raises Conflict when both slots are taken, Misconfigured on settings that cannot work.
        """
        prefix, owner = _prefix(ctx), _owner(ctx)
        _limit(ctx)
        with reading(ctx, admin(ctx)) as cursor:
            group = slots.read(cursor, owner)
            if group.comment == slots.ABSENT:
                raise Misconfigured(f"There is no role {owner}. Create it first.")
            if group.is_privileged:
                raise Misconfigured(f"{owner} has rights over the server; no key may act as it.")
            pair = [slots.read(cursor, prefix + suffix) for suffix in slots.SUFFIXES]
        free = slots.choose(pair, owner, current)
        password = Secret.of(secrets.token_urlsafe(_PASSWORD_BYTES))
        return Attempt(
            op_id,
            number,
            tag_of(op_id, number),
            slot=free.role,
            facts={"seen": free.comment, "owner": owner},
            material={"password": password},
        )

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Set the slot's password in one transaction; the role is made where it is missing.

        Raises Conflict when the slot no longer is as `prepare` saw it.
        """
        role, owner, limit = attempt.slot or "", attempt.facts["owner"], _limit(ctx)
        proof = verifier(
            attempt.material["password"].reveal(), salt=secrets.token_bytes(_SALT_BYTES)
        )
        with changing(ctx, admin(ctx)) as cursor:
            slots.lock(cursor, role)
            found = slots.read(cursor, role)
            is_replay = found.mark is slots.Mark.LIVE and found.tag == attempt.tag
            if not is_replay and found.comment != attempt.facts["seen"]:
                raise Conflict(f"{role} has changed since this was planned.")
            if found.comment == slots.ABSENT:
                slots.make(cursor, role)
            slots.enter(cursor, role, owner)
            slots.arm(cursor, role, verifier=proof, limit=limit)
            slots.remark(cursor, role, attempt.tag)
        return Issued(
            slots.remote_id(role, attempt.tag),
            tag=attempt.tag,
            slot=role,
            public=_public(ctx, role, owner),
            material={"password": attempt.material["password"]},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the attempt's slot when it holds the attempt's credential."""
        with reading(ctx, admin(ctx)) as cursor:
            found = slots.read(cursor, attempt.slot or "")
        return [found.key()] if found.holds(attempt.tag) else []

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Log in with the credential and ask who one is."""
        role, owner = issued.slot or "", issued.public["acts_as"]
        login = Login(role, issued.material["password"], issued.public["database"])
        try:
            with reading(ctx, login) as cursor:
                cursor.execute("SELECT session_user::text, current_user::text")
                row = cursor.fetchone()
        except Rejected as error:
            return Validation(Verdict.INVALID, role, error.sentence)
        except ProviderError as error:
            return Validation(Verdict.UNKNOWN, role, error.sentence)
        if row != (role, owner):
            return Validation(Verdict.INVALID, role, f"The login does not act as {owner}.")
        return Validation(Verdict.VALID, role, f"Logged in and acts as {owner}.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Take away login and password, then end open sessions where asked.

        Does nothing when the slot holds another credential by now. Raises
        Ambiguous when sessions are still open at the deadline.
        """
        role, tag = slots.role_of(key)
        with changing(ctx, admin(ctx)) as cursor:
            slots.lock(cursor, role)
            found = slots.read(cursor, role)
            if found.holds(tag):
                slots.disarm(cursor, role)
                slots.remark(cursor, role, f"revoked {tag}")
        if kill_sessions:
            try:
                while not self._is_silent(ctx, role, tag):
                    time.sleep(_PAUSE_S)
            except Transient:
                # The login is gone already, so that "certainly not applied" would be wrong.
                raise Ambiguous(f"{role} cannot log in, but may have open sessions.") from None

    def _is_silent(self, ctx: Context, role: str, tag: str) -> bool:
        """End the sessions of a revoked credential and say whether there were none.

        The comment is compared again under the lock: whoever holds the slot by
        now keeps their sessions.
        """
        with changing(ctx, admin(ctx)) as cursor:
            slots.lock(cursor, role)
            found = slots.read(cursor, role)
            if found.mark is not slots.Mark.REVOKED or found.tag != tag:
                return True
            return slots.end_sessions(cursor, role) == 0

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return the slots with our tag; roles that keyvault did not make are not ours to list."""
        with reading(ctx, admin(ctx)) as rows:
            found = slots.listing(rows, after=cursor or "", limit=_PAGE)
        last = found[-1].role if len(found) == _PAGE else None
        return Page(tuple(slot.key() for slot in found), last)

    def suspend(self, ctx: Context, key: RemoteKey) -> None:
        """Refuse new logins and keep the password. Raises NotFound."""
        self._switch(ctx, key, on=False)

    def resume(self, ctx: Context, key: RemoteKey) -> None:
        """Allow logins again with the same password. Raises NotFound."""
        self._switch(ctx, key, on=True)

    def _switch(self, ctx: Context, key: RemoteKey, *, on: bool) -> None:
        role, tag = slots.role_of(key)
        with changing(ctx, admin(ctx)) as cursor:
            slots.lock(cursor, role)
            if not slots.read(cursor, role).holds(tag):
                raise NotFound(f"{role} no longer holds this credential.")
            slots.switch(cursor, role, on=on)
            slots.remark(cursor, role, tag if on else f"suspended {tag}")

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return the open sessions and when one of them last did something.

        The server remembers nothing of closed sessions, and shows times only
        to members of pg_read_all_stats.
        """
        role, tag = slots.role_of(key)
        with reading(ctx, admin(ctx)) as cursor:
            if slots.read(cursor, role).tag != tag:
                return LastUse(None, 0)
            return _activity(cursor, role)


def _activity(cursor: Cursor, role: str) -> LastUse:
    cursor.execute(
        "SELECT max(state_change), count(*) FROM pg_stat_activity WHERE usename = %s", (role,)
    )
    row = cursor.fetchone()
    return LastUse(row[0], row[1]) if row else LastUse(None)


def _prefix(ctx: Context) -> str:
    prefix = str(ctx.options.get("login_prefix", ""))
    if not _PREFIX.fullmatch(prefix):
        raise Misconfigured(
            "The login prefix takes up to 61 of a-z, 0-9 and _, does not begin with a digit"
            " or with pg_."
        )
    return prefix


def _owner(ctx: Context) -> str:
    owner = str(ctx.options.get("owner_role", ""))
    if not owner or "\0" in owner or len(owner.encode()) > _ROLE_BYTES or owner.startswith("pg_"):
        raise Misconfigured("The owner role must be an ordinary role, at most 63 bytes long.")
    return owner


def _limit(ctx: Context) -> int:
    text = str(ctx.options.get("connection_limit") or "-1")
    if text != "-1" and not (text.isascii() and text.isdigit() and len(text) < len("100000")):
        raise Misconfigured("The connection limit must be a whole number up to 99999.")
    return int(text)


def _public(ctx: Context, role: str, owner: str) -> dict[str, str]:
    config = ctx.config
    return {
        "username": role,
        "acts_as": owner,
        "host": str(config["host"]),
        "port": str(config.get("port") or 5432),
        "database": str(ctx.options.get("database") or config.get("database") or "postgres"),
    }
