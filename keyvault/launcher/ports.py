"""Ports of loopback for servers that are started a moment later."""

from __future__ import annotations

import secrets
import socket
from itertools import islice

# Below the ports that Linux and macOS give to connections on their way out: one
# of those could take the port before its server does, now or at its next start.
_RANGE = range(20_000, 32_768)


def free(count: int) -> list[int]:
    """Return different ports that nobody uses now; fewer only where no more are left."""
    shuffled = secrets.SystemRandom().sample(_RANGE, len(_RANGE))
    return list(islice(filter(_is_free, shuffled), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
