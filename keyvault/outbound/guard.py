"""Resolve once, judge every address, connect to a judged one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from keyvault.outbound.addresses import Allowance, Refused, canonical, judge

TIMEOUT_S = 5.0

Resolver = Callable[[str, int], Sequence[str]]


class Unreachable(Exception):
    """No answer, and certainly nothing has changed at the other end."""


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Return all addresses of a name as the system knows them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Guard:
    """The way out of one Connection: its approved exceptions and the permitted sockets.

    `sockets` are directories of unix sockets, from the settings only.
    """

    allowed: tuple[Allowance, ...] = ()
    sockets: frozenset[str] = frozenset()
    resolve: Resolver = system_resolver

    def addresses(self, host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> list[str]:
        """Resolve once and judge each address of the answer.

        Raises Refused when any of them may not be reached, Unreachable when
        the name does not resolve within `timeout_s` seconds.
        """
        name = canonical(host)
        try:
            found: Sequence[str] = [str(ip_address(name))]
        except ValueError:
            found = _within(timeout_s, lambda: self.resolve(name, port))
        if not found:
            raise Unreachable(f"{name} has no address.")
        return [judge(name, port, text, self.allowed) for text in found]

    def dial(self, host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> str:
        """Return the judged address for a client that connects by itself.

        `host` may be the directory of a unix socket. Where a name has several
        addresses, the first that accepts a connection is taken. Raises Refused, Unreachable.
        """
        if host.startswith("/"):
            if host not in self.sockets:
                raise Refused(f"The socket directory {host} is not in KEYVAULT_EGRESS_SOCKETS.")
            return host
        deadline_at = time.monotonic() + timeout_s
        found = self.addresses(host, port, timeout_s=timeout_s)
        if len(found) > 1:
            with connect(found, port, deadline_at) as probe:
                return str(probe.getpeername()[0])
        return found[0]


def _within(timeout_s: float, call: Callable[[], Sequence[str]]) -> Sequence[str]:
    """Run a resolver that knows no timeout. Raises Unreachable."""
    box: list[Sequence[str]] = []

    def run() -> None:
        try:
            box.append(call())
        except (OSError, UnicodeError):
            box.append([])

    thread = threading.Thread(target=run, daemon=True, name="resolve")
    thread.start()
    thread.join(timeout_s)
    if not box:
        raise Unreachable("The name server did not answer in time.")
    return box[0]


def connect(addresses: Sequence[str], port: int, deadline_at: float) -> socket.socket:
    """Connect to the first address that accepts. Raises Unreachable."""
    for address in addresses:
        left = deadline_at - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, port), timeout=left)
        except OSError:
            continue
    raise Unreachable(f"Nothing answers at {', '.join(addresses)} on port {port}.")
