"""The Valkey provider: what each call of the protocol does, command by command."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
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
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.valkey import schema
from keyvault.providers.valkey.admin import admin, digest, keep, keep_end, texts
from keyvault.providers.valkey.renewal import AdminPassword
from keyvault.providers.valkey.wire import Answered, Rejected, Wire, connect

_PASSWORD_BYTES = 32
_DEFAULT_PORT = 6379
_USER = re.compile(r"kv-.+-[0-9]+")
_PATTERN = re.compile(r"[!-~]{1,200}")
_COMMAND = re.compile(r"[+-]@?[a-z][a-z|_-]{0,40}")
# Whatever is allowed before, these close it: an ACL user that may change ACL users is an admin.
_ALWAYS = ("-@admin", "+acl|whoami")


class Valkey(AdminPassword):
    """Issues one ACL user per credential, named by its attempt.

    Several passwords of one user would also live side by side, but sessions,
    suspension and use belong to a user: only a user of its own can be ended,
    watched and listed without touching the credential that follows it.
    """

    kind: ClassVar[str] = "valkey"
    title: ClassVar[str] = "Valkey or Redis user"
    value_field: ClassVar[str] = "password"
    takes_listed: ClassVar[bool] = False
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return any number of users, repaired by replay."""
        del ctx
        return Capabilities(
            Shape.MULTI,
            Recovery.CLIENT,
            can_suspend=True,
            reports_last_use=True,
            can_kill_sessions=True,
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what the server or the admin user lack."""
        try:
            with admin(ctx) as wire:
                wire.ask("ACL", "USERS")
                wire.ask("ACL", "GETUSER", "kv-nobody-1")
                wire.ask("CLIENT", "LIST", "TYPE", "normal")
        except ProviderError as error:
            mend = "Correct the Connection; docs/providers/valkey.md has the admin's rights."
            return [Problem(error.sentence, mend)]
        return []

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Choose the password. Raises Misconfigured on settings that cannot work."""
        del current
        _rules(ctx)
        with admin(ctx) as wire:
            if _read(wire, tag_of(op_id, number)) is not None:
                raise Conflict(f"There is a user {tag_of(op_id, number)} already.")
        password = Secret.of(secrets.token_urlsafe(_PASSWORD_BYTES))
        tag = tag_of(op_id, number)
        return Attempt(op_id, number, tag, material={"password": password})

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the user with its rights and the hash of its password, in one command."""
        user, password = attempt.tag, attempt.material["password"]
        with admin(ctx) as wire:
            wire.tell("ACL", "SETUSER", user, "reset", "on", *_rules(ctx), f"#{digest(password)}")
            keep(wire)
        public = {
            "username": user,
            "host": str(ctx.config["host"]),
            "port": str(ctx.config.get("port") or _DEFAULT_PORT),
        }
        return Issued(user, tag=user, public=public, material={"password": password})

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the attempt's user when it exists and has a password."""
        with admin(ctx) as wire:
            found = _read(wire, attempt.tag)
        return [_key(attempt.tag, found)] if found is not None and found.has_password else []

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Log in with the credential and ask who one is."""
        user = issued.public["username"]
        try:
            with connect(ctx, user, issued.material["password"].reveal()) as wire:
                name = wire.ask("ACL", "WHOAMI")
        except Rejected as error:
            return Validation(Verdict.INVALID, user, error.sentence)
        except (ProviderError, Answered):
            return Validation(Verdict.UNKNOWN, user, "The server gave no clear answer.")
        if name != user.encode():
            return Validation(Verdict.UNKNOWN, user, "The server names another user.")
        return Validation(Verdict.VALID, user, "Logged in.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Delete the user, which ends its sessions; or only take its password away.

        Removing a password leaves sessions open, so that a user whose sessions
        are to go on stays behind without one, until it is revoked for good.
        Raises Denied where the admin may not write it down.
        """
        user = key.remote_id
        with admin(ctx) as wire:
            if not _is_ours(ctx, user):
                return
            if _read(wire, user) is None:
                # An earlier try may have ended it without writing that down.
                keep_end(wire)
                return
            if kill_sessions:
                wire.tell("ACL", "DELUSER", user)
            else:
                wire.tell("ACL", "SETUSER", user, "off", "resetpass")
            keep_end(wire)

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return every user with our label, in one page; others are not ours to list."""
        del cursor
        found: list[RemoteKey] = []
        with admin(ctx) as wire:
            for name in sorted(texts(wire.ask("ACL", "USERS"))):
                user = _read(wire, name) if _is_ours(ctx, name) else None
                if user is not None and user.has_password:
                    found.append(_key(name, user))
        return Page(tuple(found))

    def suspend(self, ctx: Context, key: RemoteKey) -> None:
        """Refuse new logins and keep the password. Raises NotFound."""
        self._switch(ctx, key, "off")

    def resume(self, ctx: Context, key: RemoteKey) -> None:
        """Allow logins again with the same password. Raises NotFound."""
        self._switch(ctx, key, "on")

    def _switch(self, ctx: Context, key: RemoteKey, word: str) -> None:
        with admin(ctx) as wire:
            found = _read(wire, key.remote_id) if _is_ours(ctx, key.remote_id) else None
            if found is None or not found.has_password:
                raise NotFound(f"There is no user {key.remote_id} with a password.")
            wire.tell("ACL", "SETUSER", key.remote_id, word)
            keep(wire)

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return the open sessions and when one of them last did something.

        The server remembers nothing of closed sessions.
        """
        with admin(ctx) as wire:
            answer = wire.ask("CLIENT", "LIST")
            seconds, _ = texts(wire.ask("TIME"))
        text = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else ""
        idle = _idle_seconds(text, key.remote_id)
        if not idle:
            return LastUse(None, 0)
        return LastUse(datetime.fromtimestamp(int(seconds) - min(idle), tz=UTC), len(idle))


@dataclass(frozen=True, slots=True)
class _User:
    """What the server says of one ACL user."""

    is_on: bool
    has_password: bool


def _read(wire: Wire, user: str) -> _User | None:
    """Return what the server says of a user, or None for one that does not exist."""
    answer = wire.ask("ACL", "GETUSER", user)
    if answer is None:
        return None
    fields = answer if isinstance(answer, list) else []
    facts = dict(zip(texts(fields[::2]), fields[1::2], strict=False))
    return _User("on" in texts(facts.get("flags")), bool(texts(facts.get("passwords"))))


def _idle_seconds(clients: str, user: str) -> list[int]:
    """Return the idle seconds of each session of a user from the lines of CLIENT LIST."""
    lines = [
        dict(part.partition("=")[::2] for part in line.split()) for line in clients.split("\n")
    ]
    return [int(line.get("idle", "0")) for line in lines if line.get("user") == user]


def _is_ours(ctx: Context, user: str) -> bool:
    return bool(_USER.fullmatch(user)) and user != ctx.config["user"]


def _key(name: str, user: _User) -> RemoteKey:
    return RemoteKey(name, tag=name, is_enabled=user.is_on, hint=name)


def _rules(ctx: Context) -> list[str]:
    """Return a new user's rights as ACL rules. Raises Misconfigured."""
    keys = str(ctx.options.get("keys") or "").split()
    channels = str(ctx.options.get("channels") or "").split()
    commands = str(ctx.options.get("commands") or "").split()
    if not keys or not all(map(_PATTERN.fullmatch, keys + channels)):
        raise Misconfigured("Give at least one key pattern, in plain characters without spaces.")
    if not commands or not all(map(_COMMAND.fullmatch, commands)):
        raise Misconfigured("Give commands such as +@read -@dangerous +ping.")
    rules = [f"~{pattern}" for pattern in keys] + [f"&{pattern}" for pattern in channels]
    return [*rules, *commands, *_ALWAYS]
