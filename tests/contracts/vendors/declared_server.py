"""A small API that no plug-in was written for: keys of one account, reached by declared requests."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.contracts.vendors.server import Answer, Asked, Refused, Vendor

_KEYS = r"/v1/accounts/42/keys"


@dataclass
class Key:
    id: str
    label: str
    role: str
    digest: str
    is_active: bool = True

    def shown(self) -> dict[str, Any]:
        return {"id": self.id, "label": self.label, "active": self.is_active}


class DeclaredServer(Vendor):
    """One account, whose keys are listed by cursor or, where a page is asked for, by number."""

    routes = (
        ("GET", _KEYS, "listing"),
        ("POST", _KEYS + "/search", "listing"),
        ("POST", _KEYS, "create"),
        ("DELETE", _KEYS + r"/([^/]+)", "delete"),
        ("GET", r"/v1/accounts/42/whoami", "whoami"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.admin = secrets.token_urlsafe(24)
        self.keys: dict[str, Key] = {}
        self.size = 10
        self.queries: list[Mapping[str, str]] = []

    def answer(self, asked: Asked) -> Answer:
        self.queries.append(asked.query)
        return super().answer(asked)

    def add(self, label: str, role: str = "reader") -> tuple[Key, str]:
        value = secrets.token_urlsafe(24)
        key = Key(f"k{len(self.queries)}/{secrets.token_hex(4)}", label, role, _digest(value))
        self.keys[key.id] = key
        return key, value

    def refusal(self, refused: Refused) -> Any:
        return {"error": refused.message}

    def listing(self, asked: Asked) -> Any:
        self._require_admin(asked)
        rows = [key.shown() for key in self.keys.values()]
        sent = asked.body or asked.query
        if "page" in sent:
            at = (int(sent["page"]) - 1) * self.size
            return {"data": {"keys": rows[at : at + self.size]}}
        at = int(sent.get("after") or 0)
        following = str(at + self.size) if at + self.size < len(rows) else None
        return {"data": {"keys": rows[at : at + self.size]}, "next": following}

    def create(self, asked: Asked) -> Any:
        self._require_admin(asked)
        sent = asked.body or {}
        if not sent.get("label") or sent.get("role") not in {"reader", "writer"}:
            raise Refused(400, "invalid", "A key needs a label and a role.")
        key, value = self.add(sent["label"], sent["role"])
        return Answer(201, {"data": {"key": key.shown()}, "secrets": [{"text": value}]})

    def delete(self, asked: Asked, key_id: str) -> Any:
        self._require_admin(asked)
        if self.keys.pop(key_id, None) is None:
            raise Refused(404, "missing", "There is no such key.")
        return {}

    def whoami(self, asked: Asked) -> Any:
        digest = _digest(asked.headers.get("authorization", "").removeprefix("Bearer "))
        for key in self.keys.values():
            if key.digest == digest and key.is_active:
                return {"key": {"label": key.label}}
        raise Refused(401, "unknown", "Who are you?")

    def _require_admin(self, asked: Asked) -> None:
        if asked.headers.get("x-admin-key") != self.admin:
            raise Refused(403, "forbidden", "You may not do that.")


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
