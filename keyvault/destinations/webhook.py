"""The webhook destination: tell a receiver that a version moved, and ask it what it has loaded.

No message carries a value: the receiver fetches it at the gateway with its own
token, so that a hook which is read or goes astray gives nothing away.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import quote

from keyvault.destinations import standard_webhooks
from keyvault.destinations.base import (
    JSON,
    Ambiguous,
    Conflict,
    Context,
    Denied,
    DestinationCapabilities,
    Field,
    Health,
    Misconfigured,
    NotFound,
    Observed,
    Problem,
    ProviderError,
    State,
    Transient,
    Version,
)
from keyvault.destinations.standard_webhooks import BadSecret, BadSignature
from keyvault.plugins.json_api import require_ok

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

STAGED, CURRENT = "secret.version.staged", "secret.version.current"
DISCARDED, REMOVED = "secret.version.discarded", "secret.version.removed"

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MOST_IDS = 100
_ID_BYTES = 16


class Webhook:
    """Sends signed events and reads a signed status. One receiver may stand for many processes."""

    kind: ClassVar[str] = "webhook"
    title: ClassVar[str] = "Signed webhook"
    config_schema: ClassVar[Sequence[Field]] = (
        Field("url", "Address of the hook", names_server=True),
        Field(
            "status_url",
            "Address of the status",
            help="Answers a signed GET with the version that is loaded.",
            names_server=True,
        ),
        Field(
            "gateway_url",
            "Gateway",
            required=False,
            help="As the receiver reaches it; the hook then names where to fetch and to confirm.",
        ),
    )
    material_schema: ClassVar[Sequence[Field]] = (
        Field(
            "signing_secret",
            "Signing secret",
            kind="secret",
            help="whsec_ and 24 to 64 random bytes in base64.",
        ),
        Field(
            "former_signing_secret",
            "Former signing secret",
            kind="secret",
            required=False,
            help="Signs as well while the receiver still knows only this one.",
        ),
    )
    target_schema: ClassVar[Sequence[Field]] = (
        Field("key", "Key", help="The key's name, as the receiver asks for it at the gateway."),
    )

    def capabilities(self, ctx: Context) -> DestinationCapabilities:
        """Return announcements and a status, and no comparison at the other end."""
        del ctx
        return DestinationCapabilities(stages=True, cas=False, readback=True, consumer_fetches=True)

    def check(self, ctx: Context) -> list[Problem]:
        """Ask for the status, which proves addresses and secret in both directions.

        Without a target there is nothing to ask: a status is about one key.
        """
        if not ctx.options:
            return []
        try:
            _status(ctx)
        except ProviderError as error:
            mend = "Correct the receiver or the target; docs/destinations/webhook.md has the rules."
            return [Problem(error.sentence, mend)]
        return []

    def observe(self, ctx: Context) -> Observed:
        """Return the version that the receiver says it goes by."""
        found = _status(ctx)
        return Observed(found.version_id, found.word is _Word.FOREIGN, found.staged)

    def stage(self, ctx: Context, version: Version) -> None:
        """Announce a version, so that a receiver which cannot take it says so now."""
        _send(ctx, STAGED, _described(version))

    def promote(self, ctx: Context, version: Version, expect: str | None) -> Observed:
        """Compare the receiver's status and tell it that the version is current.

        It is told again where it has the version already: what it has not yet
        done about an earlier message could otherwise have the last word.
        """
        found = _status(ctx)
        if found.version_id != version.id:
            _require(found, expect)
        _send(ctx, CURRENT, {**_described(version), "previous_version_id": expect})
        try:
            return self.observe(ctx)
        except Transient:
            raise Ambiguous("The receiver was told; its status is not known.") from None

    def verify(self, ctx: Context, version: Version) -> Health:
        """Read the receiver's own word: which version it goes by, and how it is with it."""
        try:
            found = _status(ctx)
        except (Transient, NotFound, Conflict) as error:
            return Health(State.PENDING, error.sentence)
        if found.word is _Word.FOREIGN:
            return Health(State.BAD, "The receiver has loaded a value that is not of keyvault.")
        if found.version_id != version.id or found.word is _Word.LOADING:
            return Health(State.PENDING, "The receiver has not loaded this version yet.")
        if found.word is _Word.FAILING:
            return Health(State.BAD, "The receiver has loaded this version and fails with it.")
        return Health(State.OK, "The receiver has loaded this version.")

    def cleanup(self, ctx: Context, keep: Sequence[str]) -> None:
        """Tell the receiver which announced versions will not come."""
        found = _status(ctx)
        for version_id in found.staged:
            if version_id not in keep:
                _send(ctx, DISCARDED, {"version_id": version_id})

    def remove(self, ctx: Context, expect: str) -> None:
        """Tell the receiver to forget the key, unless it has loaded something else."""
        found = _status(ctx)
        if found.word is _Word.EMPTY:
            return
        _require(found, expect)
        _send(ctx, REMOVED, {"version_id": expect})


class _Word(StrEnum):
    """How a receiver is. EMPTY and FOREIGN come without a version of ours, the others with one."""

    EMPTY = "empty"
    LOADING = "loading"
    READY = "ready"
    FAILING = "failing"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class _Status:
    """What a receiver says of one key."""

    word: _Word
    version_id: str | None
    staged: tuple[str, ...]

    @classmethod
    def read(cls, said: Mapping[str, JSON], key: str) -> Self:
        """Read an answer. Raises ValueError or TypeError where it has not the form of the docs."""
        word, version_id, staged = (
            _Word(str(said.get("state"))),
            said.get("version_id"),
            said["staged"],
        )
        has_version = word not in {_Word.EMPTY, _Word.FOREIGN}
        ids = [version_id, *staged] if has_version else list(staged)
        if said.get("key") != key or (version_id is not None) is not has_version:
            raise ValueError("another key, or a version where there can be none")
        if len(ids) > _MOST_IDS or not all(isinstance(one, str) for one in ids):
            raise TypeError("ids are text")
        return cls(word, version_id, tuple(staged))


def _require(found: _Status, expect: str | None) -> None:
    """Raise Conflict unless exactly what the caller expects is loaded."""
    if found.word is _Word.FOREIGN:
        raise Conflict("The receiver has loaded a value that is not of keyvault; it stays.")
    if found.version_id != expect:
        raise Conflict("The receiver goes by another version than the expected one.")


def _described(version: Version) -> dict[str, JSON]:
    return {"version_id": version.id, "version": version.number}


def _send(ctx: Context, event: str, data: Mapping[str, JSON]) -> None:
    """Post one signed event. Raises as `require_ok` does, and Ambiguous for a lost answer."""
    now = _now()
    message = {
        "type": event,
        "timestamp": datetime.fromtimestamp(now, tz=UTC).isoformat().replace("+00:00", "Z"),
        "data": {"key": _key(ctx), **data, **_addresses(ctx)},
    }
    body = json.dumps(message).encode()
    headers = {"content-type": "application/json", **_signed(ctx, now, body)}
    ctx.remaining()
    reply = ctx.http.request("POST", str(ctx.config["url"]), headers=headers, body=body)
    require_ok(reply, is_change=True)


def _status(ctx: Context) -> _Status:
    """Ask the receiver by a signed GET and accept only an answer that is signed for this question.

    The answer bears the id of the question: one that was recorded before does not fit.
    """
    url = str(ctx.config["status_url"])
    asked = f"{url}{'&' if '?' in url else '?'}key={quote(_key(ctx), safe='')}"
    headers = _signed(ctx, _now(), b"")
    ctx.remaining()
    reply = ctx.http.request("GET", asked, headers=headers)
    require_ok(reply, is_change=False)
    try:
        answered = standard_webhooks.require_signed(
            _secrets(ctx), reply.headers, reply.body, now=_now()
        )
    except BadSignature:
        answered = ""
    if answered != headers[standard_webhooks.ID]:
        raise Denied("The receiver's status is not signed for this question by the secret.")
    try:
        return _Status.read(json.loads(reply.body), _key(ctx))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Misconfigured("The receiver's status is not in the form of the docs.") from None


def _addresses(ctx: Context) -> dict[str, str]:
    """Return where the receiver fetches the value and confirms it, where the gateway is known."""
    gateway = str(ctx.config.get("gateway_url") or "").strip().rstrip("/")
    if not gateway:
        return {}
    fetch = f"{gateway}/v1/keys/{quote(_key(ctx), safe='')}"
    return {"value_url": fetch, "ack_url": f"{gateway}/v1/heartbeat"}


def _key(ctx: Context) -> str:
    name = str(ctx.options.get("key") or "")
    if not _KEY.fullmatch(name):
        raise Misconfigured("Name the key as the receiver knows it.")
    return name


def _signed(ctx: Context, now: int, body: bytes) -> dict[str, str]:
    message_id = f"msg_{secrets.token_hex(_ID_BYTES)}"
    try:
        return standard_webhooks.sign(_secrets(ctx), message_id, now, body)
    except BadSecret as error:
        raise Misconfigured(str(error)) from None


def _secrets(ctx: Context) -> list[Secret]:
    """Return the signing secret, and the former one while both are in use."""
    former = ctx.admin.get("former_signing_secret")
    newest = ctx.admin.get("signing_secret")
    if newest is None:
        raise Denied("The destination has no signing secret. Enter it again.")
    return [newest, former] if former is not None and former.reveal() else [newest]


def _now() -> int:
    """Return the seconds since 1970, which a signature has to hold."""
    return int(time.time())
