"""A fake of Cloudflare's API: the tokens of accounts and their permission groups.

Shapes are those of the vendor's library (`test_cloudflare_kit.py` drives this server with it where
it is installed). A token's value is answered once, when it is made; afterwards only its hash is kept.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.contracts.vendors.server import Asked, Refused, Vendor

_V4 = r"/client/v4/accounts/([^/]+)/tokens"
_LONGEST_NAME = 120
GROUPS = {
    "c8fed203ed3043cba015a93ad1616f1f": "Zone Read",
    "82e64a83756745bbbb1c9c2701bf816b": "DNS Read",
    "5bc3f8b21c554832afc660159ab75fa4": "Account API Tokens Write",
}
DNS_READ = "82e64a83756745bbbb1c9c2701bf816b"
TOKENS_WRITE = "5bc3f8b21c554832afc660159ab75fa4"


@dataclass
class Token:
    id: str
    name: str
    digest: str
    policies: list[dict[str, Any]]
    condition: dict[str, Any]
    issued_on: str
    status: str = "active"
    last_used_on: str | None = None

    def shown(self) -> dict[str, Any]:
        facts = {name: value for name, value in vars(self).items() if name != "digest"}
        return {**facts, "modified_on": self.issued_on}


@dataclass
class Account:
    id: str
    tokens: dict[str, Token] = field(default_factory=dict)


class CloudflareServer(Vendor):
    """Several accounts. `admin` may manage the tokens of all, `reader` may only read them."""

    routes = (
        ("GET", _V4, "tokens"),
        ("POST", _V4, "create"),
        ("GET", _V4 + r"/verify", "verify"),
        ("GET", _V4 + r"/permission_groups", "groups"),
        ("GET", _V4 + r"/([^/]+)", "token"),
        ("DELETE", _V4 + r"/([^/]+)", "delete"),
        ("PUT", _V4 + r"/([^/]+)/value", "roll"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.admin, self.reader = secrets.token_urlsafe(30), secrets.token_urlsafe(30)
        self.accounts: dict[str, Account] = {}
        self.quota = 500

    @property
    def api(self) -> str:
        return f"{self.url}/client/v4"

    def add_account(self) -> Account:
        made = Account(secrets.token_hex(16))
        self.accounts[made.id] = made
        return made

    def add_token(self, account: Account, name: str) -> tuple[Token, str]:
        """Make a token as a person does in the dashboard; return it and its value."""
        return self._add(account, name, [], {})

    def refusal(self, refused: Refused) -> Any:
        code = int(refused.kind) if refused.kind.isdigit() else 10001
        error = {"code": code, "message": refused.message}
        return {"success": False, "errors": [error], "messages": [], "result": None}

    def tokens(self, asked: Asked, account_id: str) -> Any:
        account = self._managed(asked, account_id)
        page, size = int(asked.query.get("page", 1)), int(asked.query.get("per_page", 20))
        if not 5 <= size <= 50 or page < 1:
            raise Refused(400, "1001", "per_page must be from 5 to 50.")
        rows = list(account.tokens.values())
        if asked.query.get("direction") != "asc":
            rows.reverse()
        part = rows[(page - 1) * size : page * size]
        info = {"page": page, "per_page": size, "count": len(part), "total_count": len(rows)}
        return {**_result([token.shown() for token in part]), "result_info": info}

    def create(self, asked: Asked, account_id: str) -> Any:
        account = self._managed(asked, account_id, changes=True)
        sent = asked.body if isinstance(asked.body, dict) else {}
        name, policies = sent.get("name"), sent.get("policies")
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise Refused(400, "1001", "The name must have 1 to 120 characters.")
        if len(account.tokens) >= self.quota:
            raise Refused(400, "1019", "The account has as many tokens as it may have.")
        _check_policies(policies)
        token, value = self._add(account, name, policies, sent.get("condition") or {})
        return _result({**token.shown(), "value": value})

    def verify(self, asked: Asked, account_id: str) -> Any:
        account = self._account(account_id)
        digest = _digest(_bearer(asked))
        for token in account.tokens.values():
            if token.digest == digest:
                token.last_used_on = _now()
                return _result({"id": token.id, "status": token.status})
        raise Refused(401, "1000", "Invalid API Token")

    def groups(self, asked: Asked, account_id: str) -> Any:
        self._managed(asked, account_id)
        scopes = ["com.cloudflare.api.account"]
        rows = [{"id": key, "name": name, "scopes": scopes} for key, name in GROUPS.items()]
        return _result(rows)

    def token(self, asked: Asked, account_id: str, token_id: str) -> Any:
        account = self._managed(asked, account_id)
        if token_id not in account.tokens:
            raise Refused(404, "1003", "Invalid or missing token")
        return _result(account.tokens[token_id].shown())

    def delete(self, asked: Asked, account_id: str, token_id: str) -> Any:
        account = self._managed(asked, account_id, changes=True)
        if account.tokens.pop(token_id, None) is None:
            raise Refused(404, "1003", "Invalid or missing token")
        return _result({"id": token_id})

    def roll(self, asked: Asked, account_id: str, token_id: str) -> Any:
        """Replace a value in place, which ends the old one at once."""
        account = self._managed(asked, account_id, changes=True)
        value = secrets.token_urlsafe(30)
        account.tokens[token_id].digest = _digest(value)
        return _result(value)

    def _add(
        self,
        account: Account,
        name: str,
        policies: list[dict[str, Any]],
        condition: dict[str, Any],
    ) -> tuple[Token, str]:
        value = f"cfat_{secrets.token_urlsafe(30)}"
        stored = [{**policy, "id": secrets.token_hex(16)} for policy in policies]
        token = Token(secrets.token_hex(16), name, _digest(value), stored, condition, _now())
        account.tokens[token.id] = token
        return token, value

    def _account(self, account_id: str) -> Account:
        if account_id not in self.accounts:
            raise Refused(404, "7003", "Could not route to this account.")
        return self.accounts[account_id]

    def _managed(self, asked: Asked, account_id: str, *, changes: bool = False) -> Account:
        caller = _bearer(asked)
        if caller not in {self.admin, self.reader}:
            raise Refused(403, "9109", "Invalid access token")
        if changes and caller != self.admin:
            raise Refused(403, "10000", "Authentication error")
        return self._account(account_id)


def _check_policies(policies: Any) -> None:
    if not isinstance(policies, list) or not policies:
        raise Refused(400, "1001", "A token needs at least one policy.")
    for policy in policies:
        ids = [group["id"] for group in policy.get("permission_groups", [])]
        is_known = bool(ids) and set(ids) <= set(GROUPS)
        if policy.get("effect") not in {"allow", "deny"} or not is_known:
            raise Refused(400, "1001", "A policy names an effect and known permission groups.")
        if not policy.get("resources"):
            raise Refused(400, "1001", "A policy names resources.")


def _result(result: Any) -> dict[str, Any]:
    return {"success": True, "errors": [], "messages": [], "result": result}


def _bearer(asked: Asked) -> str:
    return asked.headers.get("authorization", "").removeprefix("Bearer ")


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
