"""The account of one credential, and the statements that read and change it.

An account is named by its attempt and is nobody else's: `kv-<op>-<n>`. It has a
password while its credential lives; locked, the credential is suspended.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from keyvault.crypto.secret import Secret
from keyvault.providers.base import Misconfigured, RemoteKey
from keyvault.providers.mariadb.session import Link, Row

_OURS = re.compile(r"kv-[A-Za-z0-9_-]+-[0-9]+")
_DIGEST = re.compile(r"\*[0-9A-F]{40}")
_NONE = "invalid"  # MariaDB's own word for a password that nothing matches.
_COLUMNS = (
    "User, Host, JSON_VALUE(Priv, '$.authentication_string'), JSON_VALUE(Priv, '$.account_locked')"
)


@dataclass(frozen=True, slots=True)
class Account:
    """One account as the server describes it; `digest` is the stored hash of its password."""

    user: str
    host: str
    digest: str
    is_locked: bool

    @property
    def has_password(self) -> bool:
        """Say whether there is a password that logs in, or will once the account is unlocked."""
        return bool(_DIGEST.fullmatch(self.digest))

    def key(self) -> RemoteKey:
        """Return the credential of this account as the protocol names it."""
        return RemoteKey(
            self.user, tag=self.user, is_enabled=not self.is_locked, hint=f"{self.user}@{self.host}"
        )


@dataclass(frozen=True, slots=True)
class Terms:
    """What a new account is made with."""

    host: str
    role: str
    limit: int
    must_encrypt: bool


def is_ours(user: str, admin: str) -> bool:
    """Say whether an account can be one that keyvault made."""
    return bool(_OURS.fullmatch(user)) and user != admin


def digest(password: Secret) -> str:
    """Return what mysql_native_password stores. The password has 256 random bits."""
    inner = hashlib.sha1(password.reveal(), usedforsecurity=False).digest()
    return "*" + hashlib.sha1(inner, usedforsecurity=False).hexdigest().upper()


def read(link: Link, user: str) -> list[Account]:
    """Return the accounts of a user name: none, one, or more where somebody made others by hand."""
    rows = link.ask(
        f"SELECT {_COLUMNS} FROM mysql.global_priv WHERE User = %s ORDER BY Host",  # noqa: S608
        (user,),
    )
    return [_account(row) for row in rows]


def listing(link: Link, *, after: str, limit: int) -> list[Account]:
    """Return accounts with our label and a password, ordered by name, one for each name."""
    rows = link.ask(
        "SELECT User, MIN(Host), MIN(JSON_VALUE(Priv, '$.authentication_string')),"
        " MIN(JSON_VALUE(Priv, '$.account_locked')) FROM mysql.global_priv"
        " WHERE User > %s AND User REGEXP '^kv-[A-Za-z0-9_-]+-[0-9]+$'"
        " AND JSON_VALUE(Priv, '$.authentication_string') REGEXP '^[*][0-9A-F]{40}$'"
        " GROUP BY User ORDER BY User LIMIT %s",
        (after, limit),
    )
    return [_account(row) for row in rows]


def make(link: Link, user: str, password: Secret, terms: Terms) -> None:
    """Make an account without any right; one that is there stays as it is."""
    link.tell(
        "CREATE USER IF NOT EXISTS %s@%s IDENTIFIED VIA mysql_native_password USING %s"
        f" REQUIRE {'SSL' if terms.must_encrypt else 'NONE'}"
        " WITH MAX_USER_CONNECTIONS %s PASSWORD EXPIRE NEVER",
        (user, terms.host, digest(password), terms.limit),
    )


def enter(link: Link, account: Account, role: str) -> None:
    """Let the account have the rights of a role once it asks for them."""
    link.tell("GRANT %s TO %s@%s", (role, account.user, account.host))


def act_as(link: Link, role: str) -> None:
    """Have every later session of the account that asks begin in a role.

    Said by another, this takes the right to write the server's own tables.
    """
    link.tell("SET DEFAULT ROLE %s", (role,))


def disarm(link: Link, account: Account) -> None:
    """Refuse new logins and forget the password."""
    link.tell(
        "ALTER USER IF EXISTS %s@%s IDENTIFIED VIA mysql_native_password USING %s ACCOUNT LOCK",
        (account.user, account.host, _NONE),
    )


def switch(link: Link, account: Account, *, on: bool) -> None:
    """Allow or refuse new logins and keep the password."""
    word = "UNLOCK" if on else "LOCK"
    link.tell(f"ALTER USER %s@%s ACCOUNT {word}", (account.user, account.host))


def drop(link: Link, account: Account) -> None:
    """Delete the account; an absent one counts as deleted."""
    link.tell("DROP USER IF EXISTS %s@%s", (account.user, account.host))


def sessions(link: Link, user: str) -> tuple[int, float | None]:
    """Return the number of a user's sessions, and when one of them last did something."""
    [(number, at)] = link.ask(
        "SELECT count(*), UNIX_TIMESTAMP(NOW(6)) - MIN(TIME_MS) / 1000"
        " FROM information_schema.PROCESSLIST WHERE USER = %s",
        (user,),
    )
    return int(number), None if at is None else float(at)


def end_sessions(link: Link, user: str) -> int:
    """End a user's sessions and return how many were open before."""
    number, _ = sessions(link, user)
    if number:
        link.tell("KILL USER %s", (user,))
    return number


def require_role(link: Link, role: str) -> None:
    """Raise Misconfigured unless the role exists, has no right over the server and may be given."""
    rows = link.ask(
        "SELECT JSON_VALUE(Priv, '$.access') FROM mysql.global_priv"
        " WHERE User = %s AND Host = '' AND JSON_VALUE(Priv, '$.is_role')",
        (role,),
    )
    if not rows:
        raise Misconfigured(f"There is no role {role}. Create it first.")
    if rows[0][0] not in {None, "0"}:
        raise Misconfigured(f"{role} has rights over the server; no key may act as it.")
    may = link.ask(
        "SELECT 1 FROM information_schema.APPLICABLE_ROLES"
        " WHERE ROLE_NAME = %s AND IS_GRANTABLE = 'YES'",
        (role,),
    )
    if not may:
        raise Misconfigured(f"The admin may not give {role}: GRANT it WITH ADMIN OPTION.")


def _account(row: Row) -> Account:
    user, host, stored, locked = row
    return Account(_text(user), _text(host), _text(stored), _text(locked) in {"1", "true"})


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
