"""Find the address a request came from; forwarded headers count only behind a named proxy."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def address(request: HttpRequest) -> str:
    """Return the caller's address.

    `X-Forwarded-For` is read only when the connection comes from a network in
    KEYVAULT_TRUSTED_PROXIES, and then from the right: the last address that is
    not such a proxy itself. What stands further left, anybody may have written.
    """
    direct = str(request.META.get("REMOTE_ADDR", ""))
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    for hop in [direct, *reversed(hops)]:
        if not _is_proxy(hop):
            return hop if _parsed(hop) else direct
    return direct


def _is_proxy(text: str) -> bool:
    found = _parsed(text)
    networks = (ipaddress.ip_network(word) for word in getattr(settings, "TRUSTED_PROXIES", ()))
    return found is not None and any(found in network for network in networks)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
