"""The RabbitMQ provider: what each call of the protocol does, request by request."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
    Conflict,
    Context,
    Field,
    Issued,
    LastUse,
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
from keyvault.providers.rabbitmq import schema
from keyvault.providers.rabbitmq.broker import ADMIN, MAY_ASK, Broker, Rights, User, is_accepted

_PASSWORD_BYTES = 32
_SALT_BYTES = 4  # The server's own format.
_NO_PASSWORD = ""
_USER = re.compile(r"kv-[A-Za-z0-9_-]+-[0-9]+")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_MEND = "Correct the Connection; docs/providers/rabbitmq.md has the admin's rights."


class RabbitMQ:
    """Issues one user per credential, named by its attempt.

    Two users in turn would also do, but the server knows no "only if unchanged": a
    worker that wakes up late could give a slot its old password and lock out whoever
    uses the slot by then. A name that is used once can only be brought back to life
    itself, which the inventory notices.
    """

    kind: ClassVar[str] = "rabbitmq"
    title: ClassVar[str] = "RabbitMQ user"
    config_schema: ClassVar[Sequence[Field]] = schema.CONFIG
    material_schema: ClassVar[Sequence[Field]] = schema.MATERIAL
    options_schema: ClassVar[Sequence[Field]] = schema.OPTIONS

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return any number of users, repaired by replay."""
        del ctx
        return Capabilities(
            Shape.MULTI, Recovery.CLIENT, reports_last_use=True, can_kill_sessions=True
        )

    def check(self, ctx: Context) -> list[Problem]:
        """Return what the server or the admin user lack."""
        try:
            return _problems(ctx, Broker.of(ctx))
        except ProviderError as error:
            return [Problem(error.sentence, _MEND)]

    def foresee(self, ctx: Context) -> Sequence[str]:
        """Return nothing, as each version is a user of its own. Raises Misconfigured."""
        _vhost(ctx)
        _rights(ctx)
        return ()

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Choose the password. Raises Misconfigured on settings that cannot work."""
        del current
        broker, vhost, tag = Broker.of(ctx), _vhost(ctx), tag_of(op_id, number)
        _rights(ctx)
        if not broker.has_vhost(vhost):
            raise Misconfigured(f"There is no virtual host {vhost}. Create it first.")
        if broker.user(tag) is not None:
            raise Conflict(f"There is a user {tag} already.")
        password = Secret.of(secrets.token_urlsafe(_PASSWORD_BYTES))
        return Attempt(op_id, number, tag, facts={"vhost": vhost}, material={"password": password})

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the user without a password, give it its rights, and only then the password.

        A user that is there already keeps its password until the last request, which
        gives it the same one again.
        """
        broker, user, password = Broker.of(ctx), attempt.tag, attempt.material["password"]
        vhost, rights = attempt.facts["vhost"], _rights(ctx)
        if broker.user(user) is None:
            broker.put_user(user, password_hash=_NO_PASSWORD)
        broker.permit(user, vhost, rights)
        broker.put_user(user, password_hash=_digest(password))
        public = {"username": user, "vhost": vhost, "broker": str(ctx.config.get("broker") or "")}
        return Issued(
            user,
            tag=user,
            public={name: text for name, text in public.items() if text},
            material={"password": password},
        )

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the attempt's user when it exists and has a password."""
        found = Broker.of(ctx).user(attempt.tag)
        return [_key(found)] if found is not None and found.has_password else []

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Ask, with the credential, who one is.

        A refusal is the password's only where the user may ask at all.
        """
        user = issued.public["username"]
        try:
            if is_accepted(Broker.seen_by(ctx, user, issued.material["password"]), user):
                return Validation(Verdict.VALID, user, "The server knows the user.")
            found = Broker.of(ctx).user(user)
        except ProviderError:
            return Validation(Verdict.UNKNOWN, user, "The server gave no clear answer.")
        if found is not None and found.has_password and MAY_ASK not in found.tags:
            return Validation(Verdict.UNKNOWN, user, f"The user has lost its tag {MAY_ASK}.")
        return Validation(Verdict.INVALID, user, f"The server refused {user}.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Delete the user and close its connections; or only take its password away.

        Whoever is connected goes on without a password, so that a user whose
        connections are to stay is kept until it is revoked for good. Raises
        Ambiguous when connections may be open at the deadline.
        """
        broker, user = Broker.of(ctx), key.remote_id
        if not _is_ours(ctx, user):
            return
        if not kill_sessions:
            if broker.user(user) is not None:
                broker.put_user(user, password_hash=_NO_PASSWORD)
            return
        broker.delete_user(user)
        try:
            _close_all(broker, user)
        except Transient:
            # The user is gone already, so that "certainly not applied" would be wrong.
            raise Ambiguous(f"{user} cannot log in, but may have open connections.") from None

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return every user with our label, in one page; others are not ours to list."""
        del cursor
        users = Broker.of(ctx).users()
        return Page(
            tuple(_key(user) for user in users if _is_ours(ctx, user.name) and user.has_password)
        )

    def last_use(self, ctx: Context, key: RemoteKey) -> LastUse:
        """Return the number of open connections; the server remembers nothing of closed ones."""
        return LastUse(None, len(Broker.of(ctx).connections(key.remote_id)))


def _close_all(broker: Broker, user: str) -> None:
    """Close connections until no further one shows.

    One that was told to close stays listed until its program has answered, but does
    nothing any more; one that was being opened may appear after the first look.
    """
    told: set[str] = set()
    while more := set(broker.connections(user)) - told:
        broker.close_connections(user)
        told |= more


def _problems(ctx: Context, broker: Broker) -> list[Problem]:
    me, vhost = broker.whoami(), str(ctx.options.get("vhost") or "")
    if ADMIN not in me.tags:
        mend = f"Run: rabbitmqctl set_user_tags {me.name} {ADMIN}"
        return [Problem(f"{me.name} lacks the tag {ADMIN}.", mend)]
    broker.users()
    broker.connections(me.name)
    if vhost and not broker.has_vhost(vhost):
        return [Problem(f"There is no virtual host {vhost}.", "Create it, or name another one.")]
    return []


def _is_ours(ctx: Context, user: str) -> bool:
    return bool(_USER.fullmatch(user)) and user != ctx.config["user"]


def _key(user: User) -> RemoteKey:
    return RemoteKey(user.name, tag=user.name, is_enabled=user.has_password, hint=user.name)


def _digest(password: Secret) -> str:
    """Return the salted SHA-256 that the server keeps. The password has 256 random bits."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return base64.b64encode(salt + hashlib.sha256(salt + password.reveal()).digest()).decode()


def _vhost(ctx: Context) -> str:
    vhost = str(ctx.options.get("vhost") or "/")
    if not _TEXT.fullmatch(vhost):
        raise Misconfigured("Name the virtual host in at most 255 plain characters.")
    return vhost


def _rights(ctx: Context) -> Rights:
    """Return a new user's rights. Raises Misconfigured on none, and on what is no pattern."""
    patterns = [str(ctx.options.get(name) or "") for name in ("configure", "write", "read")]
    if not any(patterns) or not all(_TEXT.fullmatch(text) for text in patterns if text):
        raise Misconfigured("Give at least one pattern of names, in plain characters.")
    return Rights(*patterns)
