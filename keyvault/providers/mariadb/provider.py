"""The MariaDB provider: what each call of the protocol does, statement by statement."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import ClassVar

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
from keyvault.providers.mariadb import accounts, preflight, schema
from keyvault.providers.mariadb.accounts import Terms
from keyvault.providers.mariadb.session import (
    DEFAULT_PORT,
    Link,
    Login,
    Rejected,
    admin,
    connect,
    is_encrypted,
)

_PAGE = 500
_PASSWORD_BYTES = 32
_PAUSE_S = 0.05
_ROLE = re.compile(r"(?!(?:public|none)$)[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.IGNORECASE)
_HOST = re.compile(r"[A-Za-z0-9_.:%/-]{1,200}")


class MariaDB:
    """Issues one account per credential, named by its attempt, with the rights of a role.

    Two passwords of one account would also live side by side. But the server says of
    a session only whose it is, not by which password: ending the old password's
    sessions would end those of the new one, and nothing would ever tell that the old
    one is silent.
    """

    kind: ClassVar[str] = "mariadb"
    title: ClassVar[str] = "MariaDB account"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return any number of accounts, repaired by replay."""
        del ctx
        return Capabilities(
            Shape.MULTI,
            Recovery.CLIENT,
            can_suspend=True,
            reports_last_use=True,
            can_kill_sessions=True,
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what the server, the admin account or the role lack."""
        return preflight.problems(ctx)

    def propose(self, config: Mapping[str, JSON], name: str) -> Mapping[str, str]:
        """Return the Connection's role."""
        del name
        return schema.proposed(config)

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Return nothing, as each version is an account of its own. Raises Misconfigured."""
        _terms(ctx)
        return ()

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Choose the password. Raises Misconfigured on settings that cannot work."""
        del current
        role, tag = _terms(ctx).role, tag_of(op_id, number)
        with connect(ctx, admin(ctx)) as link:
            accounts.require_role(link, role)
            if accounts.read(link, tag):
                raise Conflict(f"There is an account {tag} already.")
        password = Secret.of(secrets.token_urlsafe(_PASSWORD_BYTES))
        return Attempt(op_id, number, tag, facts={"role": role}, material={"password": password})

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the account with its password, give it the role, and have it begin in that role.

        Raises Conflict when the account exists and has another password or none.
        """
        tag, role, password = attempt.tag, attempt.facts["role"], attempt.material["password"]
        with connect(ctx, admin(ctx)) as link:
            self._make(link, tag, password, _terms(ctx))
            for account in accounts.read(link, tag):
                accounts.enter(link, account, role)
        _begin_in_role(ctx, Login(tag, password), role)
        return Issued(tag, tag=tag, public=_public(ctx, tag, role), material={"password": password})

    def _make(self, link: Link, tag: str, password: Secret, terms: Terms) -> None:
        for account in accounts.read(link, tag):
            if account.digest != accounts.digest(password):
                raise Conflict(f"The account {tag} exists and does not have this password.")
        accounts.make(link, tag, password, terms)

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the attempt's account when it exists and has a password."""
        with connect(ctx, admin(ctx)) as link:
            found = accounts.read(link, attempt.tag)
        return [account.key() for account in found if account.has_password][:1]

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Log in with the credential and ask who one is."""
        user, role = issued.public["username"], issued.public["acts_as"]
        try:
            with connect(ctx, Login(user, issued.material["password"])) as link:
                [(found, acting)] = link.ask("SELECT CURRENT_USER(), CURRENT_ROLE()")
        except Rejected as error:
            return Validation(Verdict.INVALID, user, error.sentence)
        except ProviderError as error:
            return Validation(Verdict.UNKNOWN, user, error.sentence)
        if str(found).rpartition("@")[0] != user:
            return Validation(Verdict.UNKNOWN, user, "The server names another account.")
        if acting != role:
            return Validation(Verdict.INVALID, user, f"The login does not act as {role}.")
        return Validation(Verdict.VALID, user, f"Logged in and acts as {role}.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Take away login and password; where asked, end open sessions and delete the account.

        Neither a lock nor a deletion ends a session, so that an account whose sessions
        are to go on stays behind, until it is revoked for good. Raises Ambiguous when
        sessions are still open at the deadline.
        """
        user = key.remote_id
        if not _is_ours(ctx, user):
            return
        with connect(ctx, admin(ctx)) as link:
            found = accounts.read(link, user)
            for account in found:
                accounts.disarm(link, account)
            if not kill_sessions:
                return
            try:
                while accounts.end_sessions(link, user):
                    time.sleep(_PAUSE_S)
                for account in found:
                    accounts.drop(link, account)
            except Transient:
                # The login is gone already, so that "certainly not applied" would be wrong.
                raise Ambiguous(f"{user} cannot log in, but may have open sessions.") from None

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return the accounts with our label; others are not ours to list."""
        with connect(ctx, admin(ctx)) as link:
            found = accounts.listing(link, after=cursor or "", limit=_PAGE)
        last = found[-1].user if len(found) == _PAGE else None
        return Page(tuple(one.key() for one in found if _is_ours(ctx, one.user)), last)

    def suspend(self, ctx: Context, key: RemoteKey) -> None:
        """Refuse new logins and keep the password. Raises NotFound."""
        self._switch(ctx, key, on=False)

    def resume(self, ctx: Context, key: RemoteKey) -> None:
        """Allow logins again with the same password. Raises NotFound."""
        self._switch(ctx, key, on=True)

    def _switch(self, ctx: Context, key: RemoteKey, *, on: bool) -> None:
        with connect(ctx, admin(ctx)) as link:
            found = accounts.read(link, key.remote_id) if _is_ours(ctx, key.remote_id) else []
            living = [account for account in found if account.has_password]
            if not living:
                raise NotFound(f"There is no account {key.remote_id} with a password.")
            for account in living:
                accounts.switch(link, account, on=on)

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return the open sessions and when one of them last did something.

        The server remembers nothing of closed sessions.
        """
        with connect(ctx, admin(ctx)) as link:
            number, at = accounts.sessions(link, key.remote_id)
        return LastUse(None if at is None else datetime.fromtimestamp(at, tz=UTC), number)


def _begin_in_role(ctx: Context, login: Login, role: str) -> None:
    """Let the new account, by its own login, begin every session in its role. Raises Ambiguous.

    The account is there by now, so that nothing here is "certainly not applied".
    """
    try:
        with connect(ctx, login) as link:
            accounts.act_as(link, role)
    except Rejected:
        raise Misconfigured(
            f"The new account {login.user} cannot log in from here; widen the hosts of new accounts."
        ) from None
    except Transient:
        raise Ambiguous(f"The account {login.user} may not act as {role} yet.") from None


def _is_ours(ctx: Context, user: str) -> bool:
    return accounts.is_ours(user, str(ctx.config["user"]))


def _terms(ctx: Context) -> Terms:
    """Return what a new account is made with. Raises Misconfigured."""
    role = str(ctx.options.get("role") or "")
    if not _ROLE.fullmatch(role):
        raise Misconfigured("Name the role in up to 80 letters, digits, _, . and -.")
    host = str(ctx.config.get("account_host") or "%")
    if not _HOST.fullmatch(host):
        raise Misconfigured("Write the hosts of new accounts as MariaDB does, such as 10.0.%.")
    text = str(ctx.options.get("connection_limit") or "0")
    if not (text.isascii() and text.isdigit() and len(text) < len("100000")):
        raise Misconfigured("The connection limit must be a whole number up to 99999.")
    return Terms(host, role, int(text), is_encrypted(ctx))


def _public(ctx: Context, user: str, role: str) -> dict[str, str]:
    database = str(ctx.options.get("database") or "")
    public = {
        "username": user,
        "acts_as": role,
        "host": str(ctx.config["host"]),
        "port": str(ctx.config.get("port") or DEFAULT_PORT),
    }
    return public | ({"database": database} if database else {})
