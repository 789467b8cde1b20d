"""Judge where a request came from and where it may go next: neither is taken on trust."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme


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


def local_path(wanted: str) -> str:
    r"""Return `wanted` if it is a path of this console, else "".

    Django's check knows what browsers make of `//evil`, `/\evil` and control
    characters; a path from the root is demanded on top.
    """
    is_ours = wanted.startswith("/") and url_has_allowed_host_and_scheme(wanted, allowed_hosts=None)
    return wanted if is_ours else ""


def _is_proxy(text: str) -> bool:
    found = _parsed(text)
    networks = (ipaddress.ip_network(word) for word in settings.TRUSTED_PROXIES)
    return found is not None and any(found in network for network in networks)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
