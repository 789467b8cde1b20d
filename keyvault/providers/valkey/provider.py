"""The Valkey provider: what each call of the protocol does, command by command."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Attempt,
    Capabilities,
    Conflict,
    Context,
    Denied,
    Field,
    Issued,
    Misconfigured,
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
from keyvault.providers.valkey import schema
from keyvault.providers.valkey.wire import Answered, Rejected, Value, Wire, connect

_MAX_LIVE = 2
_PASSWORD_BYTES = 32
_USER = re.compile(r"kv-[a-z0-9][a-z0-9_-]{0,60}")
_PATTERN = re.compile(r"[!-~]{1,200}")
_COMMAND = re.compile(r"[+-]@?[a-z][a-z|_-]{0,40}")
# Whatever is allowed before, these close it: an ACL user that may change ACL users is an admin.
_ALWAYS = ("-@admin", "+acl|whoami")


class Valkey:
    """Issues passwords of one ACL user; the server is told their SHA-256 only."""

    kind: ClassVar[str] = "valkey"
    title: ClassVar[str] = "Valkey or Redis user"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return two passwords side by side, repaired by replay."""
        del ctx
        return Capabilities(
            Shape.MULTI, Recovery.CLIENT, max_live=_MAX_LIVE, can_kill_sessions=True
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what the server or the admin user lack."""
        try:
            with _admin(ctx) as wire:
                wire.ask("ACL", "USERS")
                wire.ask("ACL", "GETUSER", "kv-nobody")
        except ProviderError as error:
            mend = "Correct the Connection; docs/providers/valkey.md has the admin's rights."
            return [Problem(error.sentence, mend)]
        return []

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Choose the password. Raises Conflict when the user has one that is not `current`."""
        user = _user(ctx)
        _rules(ctx)
        with _admin(ctx) as wire:
            there = set(_hashes(wire, user) or ())
        expected = {_hash_of(current.remote_id)} if current else set()
        if there - expected:
            raise Conflict(f"{user} has a password that is not this key's current one.")
        return Attempt(
            op_id,
            number,
            tag_of(op_id, number),
            facts={"user": user},
            material={"password": Secret.of(secrets.token_urlsafe(_PASSWORD_BYTES))},
        )

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Add the password's hash and set the user's rights, in one command."""
        user, digest = attempt.facts["user"], _digest(attempt.material["password"])
        with _admin(ctx) as wire:
            wire.tell("ACL", "SETUSER", user, "on", *_rules(ctx), f"#{digest}")
            _persist(wire)
        return Issued(
            f"{user}/{digest}",
            tag=attempt.tag,
            public={
                "username": user,
                "host": str(ctx.config["host"]),
                "port": str(ctx.config.get("port") or 6379),
            },
            material={"password": attempt.material["password"]},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the attempt's password when the user has it."""
        user, digest = attempt.facts["user"], _digest(attempt.material["password"])
        with _admin(ctx) as wire:
            there = _hashes(wire, user) or ()
        return [_key(user, digest, attempt.tag)] if digest in there else []

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
        """Take the hash away, then end the user's sessions where asked.

        Sessions belong to the user, not to one password: those opened with a
        newer password end too, and their clients log in again with it.
        """
        user, digest = key.remote_id.partition("/")[0], _hash_of(key.remote_id)
        if not _USER.fullmatch(user) or user == ctx.config["user"]:
            return
        with _admin(ctx) as wire:
            there = _hashes(wire, user)
            if there is None:
                return
            if digest in there:
                _missing_is_fine(wire, "ACL", "SETUSER", user, f"!{digest}")
                _persist(wire)
            if kill_sessions:
                _missing_is_fine(wire, "CLIENT", "KILL", "USER", user)

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return each password of each user whose name begins with kv-, in one page.

        The server keeps no label beside a hash, so that `tag` is the user's name.
        """
        del cursor
        with _admin(ctx) as wire:
            names = set(_texts(wire.ask("ACL", "USERS"))) - {str(ctx.config["user"])}
            users = sorted(name for name in names if _USER.fullmatch(name))
            found = [
                _key(user, digest, user) for user in users for digest in _hashes(wire, user) or ()
            ]
        return Page(tuple(found))


@contextmanager
def _admin(ctx: Context) -> Iterator[Wire]:
    """Open a connection as the admin, and name the server's refusals without its words."""
    password = ctx.admin.get("password")
    if password is None:
        raise Denied("The Connection has no admin password. Enter it again.")
    try:
        with connect(ctx, str(ctx.config["user"]), password.reveal()) as wire:
            yield wire
    except Answered as error:
        if error.word == "NOPERM":
            raise Denied("The admin user may not run a command that is needed here.") from None
        if error.word in {"BUSY", "LOADING", "OOM", "READONLY", "MASTERDOWN"}:
            raise Transient(f"The server answered {error.word}.") from None
        raise Misconfigured(f"The server answered {error.word}.") from None


def _hashes(wire: Wire, user: str) -> list[str] | None:
    """Return the hashes of a user's passwords, or None for a user that does not exist."""
    answer = wire.ask("ACL", "GETUSER", user)
    if answer is None:
        return None
    fields = answer if isinstance(answer, list) else []
    facts = dict(zip(_texts(fields[::2]), fields[1::2], strict=False))
    return _texts(facts.get("passwords"))


def _texts(value: Value) -> list[str]:
    items = value if isinstance(value, list) else []
    return [item.decode("utf-8", "replace") for item in items if isinstance(item, bytes)]


def _persist(wire: Wire) -> None:
    """Write users to disk: the ACL file, or the configuration file where there is none."""
    try:
        wire.tell("ACL", "SAVE")
    except Answered:
        try:
            wire.tell("CONFIG", "REWRITE")
        except Answered:
            # A server without any file keeps users in memory; docs/providers/valkey.md says so.
            return


def _missing_is_fine(wire: Wire, *words: str) -> None:
    try:
        wire.tell(*words)
    except Answered as error:
        if not error.says_missing:
            raise


def _key(user: str, digest: str, tag: str) -> RemoteKey:
    return RemoteKey(f"{user}/{digest}", tag=tag, is_enabled=True, hint=f"{user} #{digest[:8]}")


def _digest(password: Secret) -> str:
    """Return the SHA-256 that the server compares. The password has 256 random bits."""
    return hashlib.sha256(password.reveal()).hexdigest()


def _hash_of(remote_id: str) -> str:
    return remote_id.partition("/")[2]


def _user(ctx: Context) -> str:
    user = str(ctx.options.get("user", ""))
    if not _USER.fullmatch(user) or user == ctx.config["user"]:
        raise Misconfigured(
            "The ACL user must begin with kv- and go on with a-z, 0-9, _ and -, up to 64 in all."
        )
    return user


def _rules(ctx: Context) -> list[str]:
    """Return the user's rights as ACL rules, from scratch. Raises Misconfigured."""
    keys = str(ctx.options.get("keys") or "").split()
    channels = str(ctx.options.get("channels") or "").split()
    commands = str(ctx.options.get("commands") or "").split()
    if not keys or not all(map(_PATTERN.fullmatch, keys + channels)):
        raise Misconfigured("Give at least one key pattern, in plain characters without spaces.")
    if not commands or not all(map(_COMMAND.fullmatch, commands)):
        raise Misconfigured("Give commands such as +@read -@dangerous +ping.")
    rules = ["resetkeys", *(f"~{pattern}" for pattern in keys), "resetchannels"]
    rules += [f"&{pattern}" for pattern in channels]
    return [*rules, "clearselectors", "nocommands", *commands, *_ALWAYS]
