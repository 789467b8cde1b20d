"""One HTTPS request through the guard: no redirects, capped in time and size."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpcore

from keyvault.outbound.addresses import Allowance, Refused, canonical
from keyvault.outbound.guard import TIMEOUT_S, Guard, Unreachable

MAX_BYTES = 1_000_000


class Lost(Exception):
    """The request was sent and its answer is missing or unusable: it may have taken effect."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer of any status; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


def fetch(
    guard: Guard,
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float = TIMEOUT_S,
    tls: Callable[[], ssl.SSLContext] = ssl.create_default_context,
) -> Answer:
    """Send one request and return its answer; a redirect is an answer like any other.

    Raises Refused, Unreachable, and Lost when a request that may change
    something (all but GET and HEAD) was sent and its answer did not come whole.
    """
    target = _target(url, guard.allowed)
    backend = _Backend(guard, time.monotonic() + min(timeout_s, TIMEOUT_S))
    lines = {"host": _authority(url), "accept-encoding": "identity", **(headers or {})}
    # Without TLS nothing is trusted, and reading the authorities of the system takes long.
    trust = tls() if target.scheme == b"https" else None
    pool = httpcore.ConnectionPool(ssl_context=trust, network_backend=backend, max_connections=1)
    try:
        with pool, pool.stream(method, target, headers=list(lines.items()), content=body) as got:
            return _read(got)
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        reason = f"{_authority(url)}: {type(error).__name__}"
        if backend.has_sent and method.upper() not in {"GET", "HEAD"}:
            raise Lost(f"{reason}; the request may have taken effect.") from None
        raise Unreachable(f"{reason}.") from None


class _Backend(httpcore.NetworkBackend):
    """Connects through the guard and holds every later step to one deadline."""

    def __init__(self, guard: Guard, deadline_at: float) -> None:
        self.guard, self.deadline_at, self.has_sent = guard, deadline_at, False
        self._sockets = httpcore.SyncBackend()

    def left(self) -> float:
        """Return the seconds left. Raises httpcore.ReadTimeout when there are none."""
        seconds = self.deadline_at - time.monotonic()
        if seconds <= 0:
            raise httpcore.ReadTimeout
        return seconds

    def connect_tcp(  # noqa: PLR0917  (the protocol's own signature)
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first judged address that accepts; the time given by others is ignored."""
        del timeout, local_address
        failure: httpcore.NetworkError | httpcore.TimeoutException | None = None
        for address in self.guard.addresses(host, port, timeout_s=self.left()):
            try:
                stream = self._sockets.connect_tcp(
                    address, port, timeout=self.left(), socket_options=socket_options
                )
                return _Stream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError


class _Stream(httpcore.NetworkStream):
    """A stream whose every step ends by the deadline, so that a slow drip does too."""

    def __init__(self, inner: httpcore.NetworkStream, backend: _Backend) -> None:
        self._inner, self._backend = inner, backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        return self._inner.read(max_bytes, timeout=self._backend.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        left = self._backend.left()
        self._backend.has_sent = True
        self._inner.write(buffer, timeout=left)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        del timeout
        inner = self._inner.start_tls(ssl_context, server_hostname, timeout=self._backend.left())
        return _Stream(inner, self._backend)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  (the protocol's own type)
        return self._inner.get_extra_info(info)


def _target(url: str, allowed: Iterable[Allowance]) -> httpcore.URL:
    """Take a URL apart once, so that nothing after this parses it differently."""
    if not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        raise Refused("The address holds characters that do not belong into a URL.")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None or not parts.hostname:
        raise Refused("The address must name a host and no user.")
    host = canonical(parts.hostname)
    port = _port(url)
    may_be_plain = any(
        entry.is_http and entry.port == port and _names(entry, host) for entry in allowed
    )
    if parts.scheme != "https" and not (parts.scheme == "http" and may_be_plain):
        raise Refused(f"{host}:{port} must be reached over https.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return httpcore.URL(scheme=parts.scheme, host=host, port=port, target=path)


def _names(entry: Allowance, host: str) -> bool:
    if isinstance(entry.target, str):
        return entry.target == host
    try:
        return ip_address(host) in entry.target
    except ValueError:
        return False


def _port(url: str) -> int:
    parts = urlsplit(url)
    try:
        return parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise Refused("The port in the address is not a number from 1 to 65535.") from None


def _authority(url: str) -> str:
    return urlsplit(url).netloc.lower()


def _read(got: httpcore.Response) -> Answer:
    """Read the body up to the cap. Raises httpcore.RemoteProtocolError beyond it."""
    body = bytearray()
    for chunk in got.iter_stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise httpcore.RemoteProtocolError(f"more than {MAX_BYTES} bytes")
    headers = {name.decode("ascii").lower(): text.decode("latin-1") for name, text in got.headers}
    return Answer(got.status, headers, bytes(body))
