"""HTTP/1.1 over the standard library: calls on kept connections, and streams. Never redirected.

A redirect is an answer like any other here, for a token that follows one
reaches whoever wrote it.
"""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keyvault.client.calls import Answer, Away, Call
from keyvault.client.settings import Settings

if TYPE_CHECKING:
    from ssl import SSLContext

MOST_BYTES = 5_000_000
_CHUNK = 65_536
_IDEMPOTENT = frozenset({"GET", "HEAD"})


class Sockets:
    """Connections to a few servers, kept open between calls. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        """Open nothing yet."""
        self._settings = settings
        self._idle: defaultdict[str, list[http.client.HTTPConnection]] = defaultdict(list)
        self._streams: set[Stream] = set()
        self._lock = threading.Lock()
        self._tls: SSLContext | None = None

    def ask(self, call: Call) -> Answer:
        """Make a call and return its whole answer. Raises Away."""
        origin = _origin(call.url)
        kept = self._idle[origin]
        # A kept connection may have been closed by the server meanwhile. Only a call that may
        # be made twice is risked on one.
        if call.method in _IDEMPOTENT:
            with suppress(IndexError, OSError, http.client.HTTPException):
                return self._answered(kept.pop(), call, origin)
        try:
            return self._answered(self._connection(origin, call.timeout_s), call, origin)
        except (OSError, http.client.HTTPException) as error:
            raise Away(origin, _reason(error)) from error

    def open(self, call: Call) -> tuple[Stream, Answer]:
        """Make a call on a connection of its own and leave its body to be read. Raises Away."""
        origin = _origin(call.url)
        link = self._connection(origin, call.timeout_s)
        try:
            link.connect()
            # The connection forgets its socket where the answer says "Connection: close".
            wire = link.sock
            response = _sent(link, call)
        except (OSError, http.client.HTTPException) as error:
            link.close()
            raise Away(origin, _reason(error)) from error
        stream = Stream(wire, response, self._streams.discard)
        with self._lock:
            self._streams.add(stream)
        return stream, Answer(response.status, _headers(response))

    def close(self) -> None:
        """Close everything; whoever waits for a stream is told its end."""
        with self._lock:
            links = [link for kept in self._idle.values() for link in kept]
            self._idle.clear()
            streams = tuple(self._streams)
        for link in links:
            link.close()
        for stream in streams:
            stream.interrupt()

    def _answered(self, link: http.client.HTTPConnection, call: Call, origin: str) -> Answer:
        try:
            response = _sent(link, call)
            body = response.read(MOST_BYTES + 1)
        except BaseException:
            link.close()
            raise
        if len(body) > MOST_BYTES:
            link.close()
            raise Away(origin, "its answer does not end")
        if response.will_close:
            link.close()
        else:
            self._idle[origin].append(link)
        return Answer(response.status, _headers(response), body)

    def _connection(self, origin: str, timeout_s: float) -> http.client.HTTPConnection:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
        if self._tls is None:
            self._tls = self._settings.tls()
        proxy = _proxy(host)
        if proxy is None:
            return http.client.HTTPSConnection(
                host, parts.port, timeout=timeout_s, context=self._tls
            )
        link = http.client.HTTPSConnection(*proxy, timeout=timeout_s, context=self._tls)
        link.set_tunnel(host, parts.port)
        return link


class Stream:
    """The body of one answer, read as it comes."""

    def __init__(
        self,
        wire: socket.socket,
        response: http.client.HTTPResponse,
        gone: Callable[[Stream], None],
    ) -> None:
        self._wire, self._response, self._gone = wire, response, gone

    def read(self, within_s: float) -> bytes | None:
        """Return what has come: empty at the end, None when nothing came in time."""
        try:
            self._wire.settimeout(within_s)
            return self._response.read1(_CHUNK)
        except TimeoutError:
            return None
        except (OSError, ValueError, http.client.HTTPException):
            # The other side, or `interrupt`, has ended it.
            return b""

    def interrupt(self) -> None:
        """Tell a reader in another thread that this is the end."""
        with suppress(OSError):
            self._wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close it; nothing more is read."""
        self._gone(self)
        self._response.close()
        self._wire.close()


def _sent(link: http.client.HTTPConnection, call: Call) -> http.client.HTTPResponse:
    parts = urlsplit(call.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    link.request(call.method, target, call.body, dict(call.headers))
    return link.getresponse()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _headers(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): text for name, text in response.getheaders()}


def _reason(error: Exception) -> str:
    """Return in a few words why nobody answered."""
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there"
    if isinstance(error, socket.gaierror):
        return "its name cannot be found"
    if type(error).__name__ == "SSLCertVerificationError":
        return "its certificate is not trusted here (set KEYVAULT_CA_FILE for an own authority)"
    return "the connection broke"


def _proxy(host: str) -> tuple[str, int | None] | None:
    """Return the proxy that HTTPS_PROXY names, unless NO_PROXY spares this host."""
    named = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for entry in filter(None, (word.strip().lstrip(".") for word in spared.split(","))):
        if entry in {"*", host} or host.endswith(f".{entry}"):
            return None
    parts = urlsplit(named if named and "//" in named else f"http://{named or ''}")
    return (parts.hostname, parts.port) if parts.hostname else None
