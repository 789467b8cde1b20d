"""Where a request came from. A header is believed only when a trusted proxy sent it (R40)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from keyvault.gateway.settings import Network


def peer(client: str) -> str:
    """Return the address of `address:port`, without the brackets of IPv6."""
    return client.rpartition(":")[0].strip("[]")


def source(direct: str, forwarded: str, proxies: Sequence[Network]) -> str:
    """Return the caller's address.

    `forwarded` is read from the right: the last address that is not a trusted
    proxy itself. What stands further left, anybody may have written.
    """
    for hop in [direct, *reversed([hop.strip() for hop in forwarded.split(",")])]:
        found = _parsed(hop)
        if found is None:
            return direct
        if not any(found in network for network in proxies):
            return hop
    return direct


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
