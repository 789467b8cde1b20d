"""The part of RabbitMQ's management API that deals with users, their rights and connections.

The server has no condition on a change (no version, no "only if absent"), so that
nothing here overwrites what somebody else may have written meanwhile: a user's
name belongs to one attempt for ever.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Self

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import JsonApi, NotAccepted, segment
from keyvault.providers.base import JSON, Context, Denied, Misconfigured, NotFound, Transient

# A user without this tag is refused by every call over HTTP, also by the one that tries a password.
MAY_ASK = "management"
ADMIN = "administrator"
_HASHING = "rabbit_password_hashing_sha256"


@dataclass(frozen=True, slots=True)
class User:
    """What the server says of one user."""

    name: str
    has_password: bool
    tags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rights:
    """Patterns of names in one virtual host; an empty one matches nothing."""

    configure: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class Broker:
    """One server as one user sees it."""

    api: JsonApi

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Return the server as its admin sees it. Raises Denied, Misconfigured."""
        password = ctx.admin.get("password")
        if password is None:
            raise Denied("The Connection has no admin password. Enter it again.")
        return cls.seen_by(ctx, str(ctx.config["user"]), password)

    @classmethod
    def seen_by(cls, ctx: Context, user: str, password: Secret) -> Self:
        """Return the server as this user sees it. Raises Misconfigured."""
        if not user or ":" in user:
            raise Misconfigured("The name of the user is missing or holds a colon.")
        word = base64.b64encode(user.encode() + b":" + password.reveal()).decode()
        headers = {"authorization": f"Basic {word}"}
        return cls(
            JsonApi(ctx, str(ctx.config["url"]), headers, ca=str(ctx.config.get("ca") or ""))
        )

    def whoami(self) -> User:
        """Return who asks. Raises NotAccepted on a wrong password or a user that may not ask."""
        return _user(self.api.read("/api/whoami"))

    def user(self, name: str) -> User | None:
        """Return one user, or None where there is none."""
        try:
            return _user(self.api.read(f"/api/users/{segment(name)}"))
        except NotFound:
            return None

    def users(self) -> list[User]:
        """Return every user."""
        query = {"columns": "name,password_hash,tags"}
        return [_user(entry) for entry in self.api.read_list("/api/users", query)]

    def has_vhost(self, vhost: str) -> bool:
        """Say whether a virtual host exists."""
        try:
            self.api.read(f"/api/vhosts/{segment(vhost)}")
        except NotFound:
            return False
        return True

    def put_user(self, name: str, *, password_hash: str) -> None:
        """Make a user, or replace its password; an empty hash lets nobody log in."""
        body = {"password_hash": password_hash, "hashing_algorithm": _HASHING, "tags": MAY_ASK}
        self.api.change("PUT", f"/api/users/{segment(name)}", body)

    def permit(self, name: str, vhost: str, rights: Rights) -> None:
        """Give a user its rights in a virtual host, in place of those that it had there."""
        body = {"configure": rights.configure, "write": rights.write, "read": rights.read}
        self.api.change("PUT", f"/api/permissions/{segment(vhost)}/{segment(name)}", body)

    def delete_user(self, name: str) -> None:
        """Delete a user; an absent one counts as deleted."""
        try:
            self.api.change("DELETE", f"/api/users/{segment(name)}")
        except NotFound:
            return

    def connections(self, name: str) -> list[str]:
        """Return the names of a user's connections, also of those that are being closed.

        Raises Misconfigured where the server is too old to be asked.
        """
        path = f"/api/connections/username/{segment(name)}"
        try:
            found = self.api.read_list(path, {"columns": "name"})
        except NotFound:
            # A user without connections, or none of this name, is answered with an empty list.
            raise Misconfigured("The server is older than RabbitMQ 3.10.8. Upgrade it.") from None
        return [str(entry.get("name")) for entry in found if isinstance(entry, dict)]

    def close_connections(self, name: str) -> None:
        """Close all connections of a user, whether or not the user still exists."""
        self.api.change("DELETE", f"/api/connections/username/{segment(name)}")


def is_accepted(broker: Broker, name: str) -> bool:
    """Say whether the user who asks is `name`. Raises Transient where the server names another."""
    try:
        found = broker.whoami().name
    except NotAccepted:
        return False
    if found != name:
        raise Transient("The server names another user.")
    return True


def _user(entry: JSON) -> User:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise Transient("The API gave no usable user.")
    tags = entry.get("tags")
    words = tags if isinstance(tags, list) else []
    return User(entry["name"], bool(entry.get("password_hash")), frozenset(map(str, words)))
