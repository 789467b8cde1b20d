"""One request as granian hands it over, within bounds (R43).

Granian's parser bounds the head (64 KB) and the time it may take to arrive;
here the address and the body get their own, much smaller bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl

from keyvault.gateway import problems

if TYPE_CHECKING:
    from granian.rsgi import Scope

ADDRESS_MOST = 4096
BODY_MOST = 65_536
BODY_S = 5.0
_BEARER = "bearer "


class Stream(Protocol):
    """An answer that goes on (granian's HTTPStreamTransport)."""

    async def send_bytes(self, data: bytes) -> None:
        """Queue some bytes. Raises granian's ProtocolClosed once the asker has gone."""


class Wire(Protocol):
    """The connection of one request, as far as it is used here (granian's HTTPProtocol)."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""

    def response_bytes(
        self, status: int, headers: list[tuple[str, str]], body: bytes | bytearray
    ) -> None:
        """Send the answer; the body is copied before this returns."""

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Stream:
        """Send the head of an answer and return what its body goes into."""

    async def client_disconnect(self) -> None:
        """Return once the asker has closed the connection."""


def check_address(scope: Scope) -> None:
    """Refuse an address that is too long. Raises Problem."""
    if len(scope.path) + len(scope.query_string) > ADDRESS_MOST:
        raise problems.too_long(f"An address has at most {ADDRESS_MOST} characters.")


def query(scope: Scope, allowed: frozenset[str]) -> dict[str, str]:
    """Return the parameters, each of which may be given once. Raises Problem for any other."""
    if not scope.query_string:
        return {}
    try:
        pairs = parse_qsl(
            scope.query_string, keep_blank_values=True, strict_parsing=True, max_num_fields=8
        )
    except ValueError:
        raise problems.bad_request("The part behind the question mark cannot be read.") from None
    found = dict(pairs)
    if len(found) != len(pairs) or not allowed.issuperset(found):
        known = ", ".join(sorted(allowed)) or "no parameter"
        raise problems.bad_request(f"This address takes {known}, each at most once.")
    return found


def token(scope: Scope) -> str:
    """Return the bearer token of a request, or an empty text."""
    header: str = scope.headers.get("authorization") or ""
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else ""


async def body(wire: Wire) -> bytes:
    """Return the body, at most 64 KB, within five seconds. Raises Problem."""
    parts = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in wire:
                parts += chunk
                if len(parts) > BODY_MOST:
                    raise problems.too_large()
    except TimeoutError:
        raise problems.too_slow() from None
    return bytes(parts)
