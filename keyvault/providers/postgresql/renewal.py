"""Renew the password of the admin role itself.

A role has one password, so that the new one ends the old one in the same COMMIT
(REPLACE). Sessions outlive that, which is the way back: the session that has set
the new password tries it by a second login, and sets the old one again where the
server refuses it. A second admin role would give an overlap, but could not be given
what the first one has: from PostgreSQL 16 on, rights over the roles that an admin
has made hang on that admin itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import psycopg
from psycopg import sql

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
    Context,
    Misconfigured,
    ProviderError,
    Recovery,
    Shape,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.postgresql.scram import verifier
from keyvault.providers.postgresql.session import (
    Connection,
    Login,
    Rejected,
    admin,
    changing,
    connect,
    limit,
    reading,
    translate,
)

PASSWORD_BYTES = 32
SALT_BYTES = 16


class AdminPassword:
    """What the provider does with the Connection's own login."""

    def admin_capabilities(self, ctx: Context) -> Capabilities:
        """Return one password, repaired by replay."""
        del ctx
        return Capabilities(Shape.REPLACE, Recovery.CLIENT, max_live=1, can_kill_sessions=True)

    def prepare_admin(self, ctx: Context, op_id: str, number: int) -> Attempt:
        """Choose the password. Raises Misconfigured where there would be no way back."""
        login = admin(ctx)
        _proof(login.password, login.user)
        with reading(ctx, login):
            pass
        password = Secret.of(secrets.token_urlsafe(PASSWORD_BYTES))
        return Attempt(op_id, number, tag_of(op_id, number), material={"password": password})

    def create_admin(self, ctx: Context, attempt: Attempt) -> Mapping[str, Secret]:
        """Set the password, log in with it, and set the old one again where that is refused."""
        old = admin(ctx)
        new = Login(old.user, attempt.material["password"], old.database)
        with connect(ctx, old) as connection:
            _set(ctx, connection, new)
            if self._tried(ctx, new).verdict is Verdict.INVALID:
                _set_again(ctx, connection, old)
                raise Misconfigured(
                    f"The server does not ask {old.user} for the password of its role; "
                    "the old one is in place again."
                )
        return dict(attempt.material)

    def withdraw_admin(self, ctx: Context, attempt: Attempt) -> None:
        """Do nothing: an equal attempt is simply repeated."""

    def validate_admin(self, ctx: Context) -> Validation:
        """Log in and ask who one is."""
        return self._tried(ctx, admin(ctx))

    def revoke_admin(self, ctx: Context, old: Mapping[str, Secret]) -> None:
        """End the sessions that were opened with the old password, which has ended already."""
        del old
        with changing(ctx, admin(ctx)) as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE usename = session_user AND pid <> pg_backend_pid()"
            )

    def _tried(self, ctx: Context, login: Login) -> Validation:
        try:
            with reading(ctx, login) as cursor:
                cursor.execute("SELECT session_user::text")
                row = cursor.fetchone()
        except Rejected as error:
            return Validation(Verdict.INVALID, login.user, error.sentence)
        except ProviderError as error:
            return Validation(Verdict.UNKNOWN, login.user, error.sentence)
        if row != (login.user,):
            return Validation(Verdict.UNKNOWN, login.user, "The server names another role.")
        return Validation(Verdict.VALID, login.user, "Logged in.")


def _set(ctx: Context, connection: Connection, login: Login) -> None:
    """Set the password of `login` in a transaction of its own. Raises Ambiguous for its COMMIT.

    The server ends a session that sleeps in the transaction beyond the call's deadline, so
    that a worker which wakes up late changes nothing.
    """
    proof = _proof(login.password, login.user)
    try:
        cursor = connection.cursor()
        limit(cursor, ctx)
        cursor.execute(
            "SELECT set_config('idle_in_transaction_session_timeout', %s, true)",
            (str(int(ctx.remaining() * 1000) + 1),),
        )
        statement = sql.SQL("ALTER ROLE {} PASSWORD {}")
        cursor.execute(statement.format(sql.Identifier(login.user), sql.Literal(proof)))
    except psycopg.Error as error:
        raise translate(error) from None
    try:
        connection.commit()
    except psycopg.Error as error:
        if connection.closed:
            raise Ambiguous("The server gave no answer to COMMIT.") from None
        raise translate(error) from None


def _set_again(ctx: Context, connection: Connection, old: Login) -> None:
    """Set the old password. Whatever fails here, the new one may be in place: Ambiguous."""
    try:
        _set(ctx, connection, old)
    except ProviderError as error:
        raise Ambiguous(f"The old password could not be set again. {error.sentence}") from None


def _proof(password: Secret, user: str) -> str:
    """Return the verifier of a password. Raises Misconfigured for one that cannot have one."""
    try:
        return verifier(password.reveal(), salt=secrets.token_bytes(SALT_BYTES))
    except ValueError:
        raise Misconfigured(
            f"The password of {user} has characters with which it could not be set again. "
            "Change it by hand once; from then on it renews itself."
        ) from None
