"""Speak to a vendor's JSON API over the guarded way out, and name failures without its words.

An error of a vendor may repeat whatever it was sent, so that nothing of an
error's body is read, kept or passed on: its status says enough.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from keyvault.plugins.errors import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    ProviderError,
    Transient,
)
from keyvault.plugins.values import JSON, Reply

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret
    from keyvault.plugins.ports import Context

_JSON_TYPE = "application/json"
_OK = range(200, 300)
_SERVER_FAULT = 500
_FORBIDDEN, _TIMEOUT, _TOO_MANY = 403, 408, 429
_MOST_WAIT_S = 3600.0
_UNUSABLE = "The API gave no usable answer; nothing was changed."
_VISIBLE = re.compile(rb"[!-~]+")


class NotAccepted(Denied):
    """The API refuses the credential itself (401), as opposed to what it may do (403)."""


_MEANINGS: Mapping[int, tuple[type[ProviderError], str]] = {
    401: (NotAccepted, "it does not accept the credential"),
    403: (Denied, "the credential lacks a right that is needed here"),
    404: (NotFound, "there is no such thing"),
    409: (Conflict, "it is busy, or somebody else changed it"),
    410: (NotFound, "there is no such thing any more"),
}


@dataclass(frozen=True, slots=True)
class JsonApi:
    """An API at `base`, such as https://api.example.com, spoken to with these headers.

    `ca` is the PEM of the authority to trust in place of the system's. A
    content-type among the headers replaces that of plain JSON.
    """

    ctx: Context
    base: str
    headers: Mapping[str, str] = field(repr=False)
    ca: str = field(default="", repr=False)

    def read(self, path: str, query: Mapping[str, str | int] | None = None) -> Mapping[str, JSON]:
        """GET an object. Raises Denied, NotFound, Misconfigured, Transient."""
        found = self._read(path, query)
        if not isinstance(found, dict):
            raise Transient(_UNUSABLE)
        return found

    def read_list(self, path: str, query: Mapping[str, str | int] | None = None) -> list[JSON]:
        """GET a list that no object wraps. Raises Denied, NotFound, Misconfigured, Transient."""
        found = self._read(path, query)
        if not isinstance(found, list):
            raise Transient(_UNUSABLE)
        return found

    def change(
        self, method: str, path: str, body: Mapping[str, JSON] | None = None
    ) -> Mapping[str, JSON]:
        """Send one change; return the object that answers it, empty for an empty answer.

        Raises Denied, NotFound, Conflict, Misconfigured and Transient when nothing
        was changed, Ambiguous when something may have been.
        """
        sent = None if body is None else json.dumps(body).encode()
        headers = ({} if sent is None else {"content-type": _JSON_TYPE}) | dict(self.headers)
        self.ctx.remaining()
        reply = self.ctx.http.request(
            method, _join(self.base, path), headers=headers, body=sent, ca=self.ca
        )
        require_ok(reply, is_change=True)
        found = _value(reply) if reply.body else {}
        if not isinstance(found, dict):
            raise Ambiguous("The API gave no usable answer to a change.")
        return found

    def _read(self, path: str, query: Mapping[str, str | int] | None) -> JSON:
        url = _join(self.base, path) + (f"?{urlencode(query)}" if query else "")
        self.ctx.remaining()
        reply = self.ctx.http.request("GET", url, headers=self.headers, ca=self.ca)
        require_ok(reply, is_change=False)
        return _value(reply)


def require_ok(reply: Reply, *, is_change: bool) -> None:
    """Raise what a status outside 200 to 299 means: Denied, NotFound, Conflict and the like."""
    if reply.status not in _OK:
        raise refusal(reply, is_change=is_change)


def segment(text: str) -> str:
    """Return `text` as one segment of a path, whatever characters it holds."""
    return quote(text, safe="")


def header_text(secret: Secret | None, what: str) -> str:
    """Return a credential as a header holds it.

    Raises Misconfigured where there is none, or where it holds characters that
    no header can: an encoder's own error would carry the value.
    """
    value = secret.reveal() if secret is not None else b""
    if not _VISIBLE.fullmatch(value):
        raise Misconfigured(f"The {what} is missing or holds spaces or other such characters.")
    return value.decode("ascii")


def instant(text: JSON) -> datetime | None:
    """Return a time of RFC 3339, or None for none, for nonsense and for one without an offset."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _join(base: str, path: str) -> str:
    return base.strip().rstrip("/") + path


def _value(reply: Reply) -> JSON:
    """Return the JSON of an answer, or None where it is none."""
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError):
        return None


def refusal(reply: Reply, *, is_change: bool) -> ProviderError:
    """Return what a status outside 200 to 299 means, in our own words."""
    said = f"The API answered {reply.status}"
    if reply.status >= _SERVER_FAULT or reply.status == _TIMEOUT:
        if is_change:
            return Ambiguous(f"{said} to a change, which may have taken effect.")
        return Transient(f"{said}; nothing was changed.")
    if reply.status == _TOO_MANY or _is_rate_limit(reply):
        return Transient(f"{said}: too many requests.", retry_after_s=_retry_after_s(reply))
    kind, why = _MEANINGS.get(reply.status, (Misconfigured, "it does not take this request"))
    return kind(f"{said}: {why}.")


def _is_rate_limit(reply: Reply) -> bool:
    """Say whether a 403 speaks of a rate, as GitHub's does, and not of a right."""
    is_spent = reply.headers.get("x-ratelimit-remaining") == "0"
    return reply.status == _FORBIDDEN and (is_spent or "retry-after" in reply.headers)


def _retry_after_s(reply: Reply) -> float | None:
    """Return the seconds that Retry-After asks for; None for a date or nonsense."""
    text = reply.headers.get("retry-after", "")
    if not text.isascii() or not text.isdigit():
        return None
    return min(float(text), _MOST_WAIT_S)
