"""Ask a dependent over HTTP how it is: one GET to an approved address, and what its answer proves.

A good status says that it is well, never which version it has. That it says in
its body: `{"keyvault": {KEY: NUMBER}}`. Nothing else of an answer is kept or
shown, and of a missing one not even why, so that asking tells nothing of a network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

from keyvault import outbound
from keyvault.dependents.models import Answer, Probe

ASK_S = 3.0
AT_ONCE = 8
BODY_MOST = 16_384
ADDRESS_CHARS = 300
_NUMBER_MOST = 2_147_483_647
_HEADERS = {"accept": "application/json", "user-agent": "keyvault"}
_GOOD, _REDIRECTS, _TOO_MANY = range(200, 300), range(300, 400), 429


class BadAddress(ValueError):
    """No address that can be asked. The message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its one spelling, and the exception of the egress guard that it takes."""

    url: str
    allowed: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What one answer says. `status`: 0 without one. `number`: the version that it names."""

    answer: Answer
    status: int = 0
    number: int | None = None


def clean(text: str, *, is_private: bool) -> Address:
    """Return an address as it is approved and asked. Raises BadAddress.

    is_private: it is one of the own network. Then this host and port may be reached
    there and no other, also without TLS. There is no place in it for a secret.
    """
    url = text.strip()
    if not url.isascii() or not url.isprintable() or not 0 < len(url) <= ADDRESS_CHARS:
        raise BadAddress(f"Write an address of at most {ADDRESS_CHARS} plain characters.")
    if set(url) & set(' "<>\\^`{|}?#'):
        raise BadAddress("The address ends with its path: no query, no fragment, no spaces.")
    scheme, host, port, path = _parts(url)
    if scheme == "http" and not is_private:
        raise BadAddress("Outside of your own network the address begins with https://.")
    shown = f"[{host}]" if ":" in host else host
    prefix = "http://" if scheme == "http" else ""
    allowed = f"{prefix}{shown}:{port}" if is_private else ""
    _judge(host, port, allowed)
    default = {"https": 443, "http": 80}[scheme]
    authority = shown if port == default else f"{shown}:{port}"
    return Address(f"{scheme}://{authority}{path}", allowed)


def ask(probes: Sequence[Probe], key: str) -> list[Heard]:
    """Ask addresses at most `AT_ONCE` at a time, each within `ASK_S` seconds; outside of transactions."""
    asked = [(probe.address, probe.allowed) for probe in probes]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="probe") as pool:
        return list(pool.map(lambda one: hear(*one, key=key), asked))


def hear(url: str, allowed: str, *, key: str) -> Heard:
    """Ask one address and return what it says of a key."""
    guard = outbound.Guard(allowed=(outbound.Allowance.parse(allowed),) if allowed else ())
    try:
        got = outbound.fetch(guard, "GET", url, headers=_HEADERS, timeout_s=ASK_S)
    except outbound.Refused:
        return Heard(Answer.REFUSED)
    except outbound.Unreachable:
        return Heard(Answer.NONE)
    if got.status in _GOOD:
        return Heard(Answer.HEALTHY, got.status, named(got.body, key))
    # A redirect is not followed and a limit is no illness: neither says how it is.
    is_silent = got.status in _REDIRECTS or got.status == _TOO_MANY
    return Heard(Answer.NONE if is_silent else Answer.BAD, got.status)


def named(body: bytes, key: str) -> int | None:
    """Return the version of a key that a body names as loaded, or None."""
    if len(body) > BODY_MOST:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    told = found.get("keyvault") if isinstance(found, dict) else None
    number = told.get(key) if isinstance(told, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        return None
    return number if 0 < number <= _NUMBER_MOST else None


def _parts(url: str) -> tuple[str, str, int, str]:
    """Return scheme, host, port and path. Raises BadAddress."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
        host = outbound.canonical(parts.hostname or "")
    except (ValueError, outbound.Refused):
        raise BadAddress("The address names no host and port that can be reached.") from None
    if parts.scheme not in {"http", "https"} or parts.username is not None:
        raise BadAddress("The address begins with https:// and names no user.")
    return parts.scheme, host, port, parts.path or "/"


def _judge(host: str, port: int, allowed: str) -> None:
    """Raise BadAddress at once for a number that no approval would open."""
    try:
        ip_address(host)
    except ValueError:
        return
    entries = (outbound.Allowance.parse(allowed),) if allowed else ()
    try:
        outbound.judge(host, port, host, entries)
    except outbound.Refused as error:
        raise BadAddress(str(error)) from None
