"""A bench for OpenBao: a real server behind a proxy that fails on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.destinations.openbao import OpenBao
from keyvault.plugins.context import Call, call
from keyvault.plugins.faults import Fault, FaultProxy

# The policy of docs/destinations/openbao.md for one secret; a test compares them.
POLICY = """\
path "secret/data/apps/orders" {
  capabilities = ["read", "create", "update", "patch"]
}
path "secret/data/apps/orders-pending" {
  capabilities = ["read", "create", "update"]
}
path "secret/metadata/apps/orders-pending" {
  capabilities = ["delete"]
}
path "sys/capabilities-self" {
  capabilities = ["update"]
}
"""
CHANGE = rb'"cas"'


def token_of(root: httpx.Client, policy: str, *, url: str = "/v1") -> str:
    """Return a token with one policy alone, without the default one."""
    name = f"p-{uuid4().hex}"
    root.put(f"{url}/sys/policies/acl/{name}", json={"policy": policy}).raise_for_status()
    asked = {"policies": [name], "no_default_policy": True, "ttl": "1h"}
    made = root.post(f"{url}/auth/token/create", json=asked).raise_for_status()
    return made.json()["auth"]["client_token"]


def policy_for(path: str) -> str:
    """Return the policy of the page for another path."""
    return POLICY.replace("apps/orders", path)


@dataclass
class OpenBaoBench:
    """One path of the engine, with a token that may do what the page says and no more."""

    root: httpx.Client
    proxy: FaultProxy
    token: str
    options: Mapping[str, Any]
    config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.destination = OpenBao()

    @classmethod
    def at(cls, root: httpx.Client, proxy: FaultProxy, path: str = "") -> OpenBaoBench:
        """Return a bench for a path, with a token of its own."""
        path = path or f"apps/{uuid4().hex}"
        options = {"path": path, "fields": "value=value username=user"}
        return cls(root, proxy, token_of(root, policy_for(path)), options)

    @property
    def path(self) -> str:
        return self.options["path"]

    def call(self, *, timeout_s: float = 10.0) -> Call:
        allowance = outbound.Allowance.parse(f"http://127.0.0.1:{self.proxy.port}")
        address = f"http://127.0.0.1:{self.proxy.port}"
        return call(
            outbound.Guard((allowance,)),
            timeout_s=timeout_s,
            config={"address": address, "mount": "secret", **self.config},
            options=self.options,
            admin={"token": Secret.of(self.token)},
        )

    def data(self, path: str = "") -> dict[str, Any]:
        answer = self.root.get(f"/v1/secret/data/{path or self.path}").json()
        return (answer.get("data") or {}).get("data") or {}

    def consumed(self) -> bytes | None:
        value = self.data().get("value")
        return value.encode() if value is not None else None

    def state(self) -> object:
        return [
            (self.data(path), self.root.get(f"/v1/secret/metadata/{path}").json().get("data"))
            for path in (self.path, f"{self.path}-pending")
        ]

    def write(self, data: Mapping[str, Any], path: str = "") -> None:
        """Write as `bao kv put` does: the whole secret."""
        url = f"/v1/secret/data/{path or self.path}"
        self.root.post(url, json={"data": data}).raise_for_status()

    def overwrite(self) -> None:
        """Change the value and leave our mark, as `bao kv patch` does."""
        self.write({**self.data(), "value": "typed-by-hand"})

    def settle(self) -> None:
        pass

    def lose_request(self):
        return self.proxy.failing(Fault.LOSE_REQUEST, CHANGE)

    def lose_answer(self):
        return self.proxy.failing(Fault.LOSE_ANSWER, CHANGE)

    def hang(self):
        return self.proxy.failing(Fault.HANG)

    def down(self):
        return self.proxy.failing(Fault.LOSE_REQUEST)

    def hostile(self, words: Sequence[bytes]):
        body = b'{"errors":["' + b" ".join(words) + b'"]}'
        head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n" % len(body)
        return self.proxy.failing(Fault.REPLY, CHANGE, head + body)

    def struck(self) -> int:
        return self.proxy.hits

    def admin_secrets(self) -> Sequence[bytes]:
        return [self.token.encode()]
