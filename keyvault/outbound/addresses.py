"""Judge addresses: which may be reached, and under which spelling. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Self

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LOOPBACK = tuple(map(ip_network, ("127.0.0.0/8", "::1/128")))
_PRIVATE = tuple(
    map(
        ip_network,
        (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "198.18.0.0/15",
            "fc00::/7",
        ),
    )
)
# Link-local, metadata services of the large clouds, multicast, reserved, tunnels into IPv4 and
# documentation. No approval opens these. NAT64 is unwrapped before it comes here.
_NEVER = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.0/24"),
            *("fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::/32", "fd20:ce::/32"),
            *("2001::/32", "2002::/16", "64:ff9b:1::/48", "3fff::/20", "5f00::/16"),
        ),
    )
)
_PORTS = range(1, 65536)
_NAME_CHARS = 253  # RFC 1035 section 2.3.4, less the length bytes.
_NAT64 = ip_network("64:ff9b::/96")
_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?")
_NUMERIC = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)")


class Refused(Exception):
    """The guard does not let this address through. The message says why and names the mend."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """One approved exception: a host or network with a port, and whether plain http is fine."""

    target: str | Network
    port: int
    is_http: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host:port`, `10.1.0.0/16:5432`, `[fd00::/8]:5432` or `http://host:port`.

        Raises ValueError with a sentence.
        """
        rest = text.strip().lower()
        is_http = rest.startswith("http://")
        host, _, port = rest.removeprefix("http://").rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or not port.isascii() or not port.isdigit() or int(port) not in _PORTS:
            raise ValueError(f"{text!r} must be written host:port or network:port.")
        try:
            return cls(ip_network(host), int(port), is_http)
        except ValueError:
            if "/" in host or not _is_name(host):
                raise ValueError(f"{text!r} holds neither a host name nor a network.") from None
            return cls(host.removesuffix("."), int(port), is_http)

    def covers(self, host: str, address: Address, port: int) -> bool:
        """Say whether this exception opens a private or loopback address under that name.

        A name opens private networks only: were loopback open too, whoever
        answers for the name could point it at this machine.
        """
        if port != self.port:
            return False
        if isinstance(self.target, str):
            is_loopback = any(address in net for net in _LOOPBACK)
            return host == self.target and (host == "localhost" or not is_loopback)
        return address in self.target


def judge(host: str, port: int, text: str, allowed: Iterable[Allowance]) -> str:
    """Return the address to connect to, in its canonical spelling. Raises Refused."""
    address = _unwrap(ip_address(text))
    shown = f"{host} ({address})" if host != str(address) else host
    if any(address in net for net in _NEVER):
        raise Refused(f"{shown} is a metadata, link-local or reserved address: never allowed.")
    if any(address in net for net in _LOOPBACK + _PRIVATE):
        if any(entry.covers(host, address, port) for entry in allowed):
            return str(address)
        raise Refused(
            f"{shown} is a private address. Have {host}:{port} approved on the allow-list first."
        )
    if not address.is_global:
        raise Refused(f"{shown} is not a public address.")
    return text if ip_address(text) in _NAT64 else str(address)


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 spelling stands for (RFC 4291, RFC 6052)."""
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id:
        raise Refused(f"{address} names a network interface: never allowed.")
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    # ::a.b.c.d is long deprecated, but some systems still connect it to a.b.c.d.
    is_compatible = int(address) >> 32 == 0 and int(address) > 1
    if address in _NAT64 or is_compatible:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_name(host: str) -> bool:
    last = host.removesuffix(".").rpartition(".")[2]
    return len(host) <= _NAME_CHARS and bool(_NAME.fullmatch(host)) and not _NUMERIC.fullmatch(last)


def canonical(host: str) -> str:
    """Return a host in the one spelling that is compared. Raises Refused on odd ones.

    0x7f.1, 2130706433, 127.1, full-width digits and `%` scopes all end here:
    what reads differently to two parsers is not let through.
    """
    plain = host.lower().removeprefix("[").removesuffix("]")
    try:
        return str(ip_address(plain))
    except ValueError:
        pass
    if not _is_name(plain):
        raise Refused(f"{host!r} is neither a plain host name nor a plain IP address.")
    return plain.removesuffix(".")
