"""What one token may do, from the settings of a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Self

from keyvault.providers.base import JSON, Context, Misconfigured
from keyvault.providers.cloudflare.account import ID

_RESOURCE = re.compile(r"com\.cloudflare\.[A-Za-z0-9._*-]{1,200}")
# A group of this name lets its holder make tokens, and so give themselves whatever they like.
_MAKES_TOKENS = "API Tokens Write"


@dataclass(frozen=True, slots=True)
class Policy:
    """The one policy of a token: permission groups on resources, perhaps from some networks."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    networks: tuple[str, ...]

    @classmethod
    def of(cls, ctx: Context, account_id: str) -> Self:
        """Read the settings of a key. Raises Misconfigured."""
        groups = _words(ctx, "permission_groups")
        if not groups or not all(map(ID.fullmatch, groups)):
            raise Misconfigured("Give permission groups by their ids: 32 of 0-9 and a-f each.")
        resources = _words(ctx, "resources") or (f"com.cloudflare.api.account.{account_id}",)
        if not all(map(_RESOURCE.fullmatch, resources)):
            raise Misconfigured("Give resources such as com.cloudflare.api.account.zone.<id>.")
        return cls(groups, resources, tuple(map(_network, _words(ctx, "networks"))))

    def check_groups(self, known: Mapping[str, str]) -> None:
        """Raise Misconfigured on a group that is not there, or that would let a key make keys."""
        for group in self.groups:
            if group not in known:
                raise Misconfigured(f"The account has no permission group {group}.")
            if _MAKES_TOKENS in known[group]:
                raise Misconfigured(
                    f"The permission group {group} lets its holder make tokens. "
                    "A key with it could give itself every right."
                )

    def body(self, name: str) -> dict[str, JSON]:
        """Return the request for a token of this name."""
        body: dict[str, JSON] = {
            "name": name,
            "policies": [
                {
                    "effect": "allow",
                    "permission_groups": [{"id": group} for group in self.groups],
                    "resources": dict.fromkeys(self.resources, "*"),
                }
            ],
        }
        if self.networks:
            body["condition"] = {"request_ip": {"in": list(self.networks)}}
        return body


def _words(ctx: Context, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(ctx.options.get(name) or "").split()))


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        raise Misconfigured("Give networks such as 203.0.113.0/24 or 2001:db8::/32.") from None
