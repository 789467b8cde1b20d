"""A fake of Anthropic's API: keys of workspaces, the Admin API over them, and the list of models.

`make_key` is what a person does in the vendor's browser console: the API has no such call. It is
also reachable as POST /console/api_keys, so that a test may lose its answer on the way.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.contracts.vendors.server import Asked, Refused, Vendor, page

MODELS = ("claude-opus-5", "claude-sonnet-5", "claude-haiku-5")
_VERSIONS = ("2023-06-01", "2026-10-21")
_STATUSES = ("active", "inactive", "archived")


@dataclass
class Key:
    id: str
    name: str
    workspace: str
    digest: str
    hint: str
    created_at: str
    status: str = "active"
    expires_at: str | None = None


class AnthropicServer(Vendor):
    """One organisation with several workspaces."""

    routes = (
        ("GET", r"/v1/models", "models"),
        ("GET", r"/v1/organizations/api_keys", "list_keys"),
        ("GET", r"/v1/organizations/api_keys/([^/]+)", "key"),
        ("POST", r"/v1/organizations/api_keys/([^/]+)", "update"),
        ("POST", r"/console/api_keys", "console"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.admin = f"sk-ant-admin01-{secrets.token_urlsafe(48)}"
        self.keys: dict[str, Key] = {}
        self._numbers = itertools.count(1)

    def add_workspace(self) -> str:
        return f"wrkspc_{next(self._numbers):04d}"

    def make_key(self, name: str, workspace: str = "wrkspc_default") -> tuple[str, str]:
        """Make a key and return its id and its value, which is shown this once."""
        value = f"sk-ant-api03-{secrets.token_urlsafe(60)}AA"
        made = Key(
            f"apikey_{next(self._numbers):06d}",
            name,
            workspace,
            _digest(value),
            f"{value[:16]}...{value[-4:]}",
            datetime.now(tz=UTC).isoformat().replace("+00:00", "Z"),
        )
        self.keys[made.id] = made
        return made.id, value

    def console(self, asked: Asked) -> Any:
        key_id, value = self.make_key(asked.body["name"], asked.body["workspace"])
        return {"id": key_id, "value": value}

    def models(self, asked: Asked) -> Any:
        self._version(asked)
        given = _digest(_credential(asked))
        if not any(key.digest == given and key.status == "active" for key in self.keys.values()):
            raise Refused(401, "authentication_error", "invalid x-api-key")
        rows = [
            {
                "type": "model",
                "id": name,
                "display_name": name.title(),
                "created_at": "2026-02-01T00:00:00Z",
                "lifecycle": "active",
            }
            for name in MODELS
        ]
        return self._listing(asked, rows)

    def list_keys(self, asked: Asked) -> Any:
        self._admin(asked)
        wanted = {name: asked.query.get(name) for name in ("status", "workspace_id")}
        rows = [
            self._shown(key)
            for key in reversed(self.keys.values())
            if wanted["status"] in (None, key.status)
            and wanted["workspace_id"] in (None, key.workspace)
        ]
        return self._listing(asked, rows)

    def key(self, asked: Asked, key_id: str) -> Any:
        self._admin(asked)
        return self._shown(self._key(key_id))

    def update(self, asked: Asked, key_id: str) -> Any:
        self._admin(asked)
        key, body = self._key(key_id), asked.body
        if not isinstance(body, dict) or set(body) - {"name", "status"}:
            raise Refused(400, "invalid_request_error", f"Unexpected input {body}.")
        if body.get("status", key.status) not in _STATUSES:
            raise Refused(400, "invalid_request_error", "status takes other values.")
        if key.status == "archived":
            raise Refused(400, "invalid_request_error", "An archived key cannot be changed.")
        key.name, key.status = body.get("name", key.name), body.get("status", key.status)
        return self._shown(key)

    def refusal(self, refused: Refused) -> Any:
        kinds = {404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        kind = kinds.get(refused.status, refused.kind)
        if refused.status >= 500 and refused.status not in kinds:
            kind = "api_error"
        return {
            "type": "error",
            "error": {"type": kind, "message": refused.message},
            "request_id": "req_fake",
        }

    def _shown(self, key: Key) -> dict[str, Any]:
        return {
            "type": "api_key",
            "id": key.id,
            "name": key.name,
            "status": key.status,
            "partial_key_hint": key.hint,
            "created_at": key.created_at,
            "created_by": {"id": "user_ann", "type": "user"},
            "expires_at": key.expires_at,
            "principal": None,
            "scope": {"type": "workspace", "workspace_id": key.workspace},
            "workspace_id": key.workspace,
        }

    def _listing(self, asked: Asked, rows: list[dict[str, Any]]) -> Any:
        found, more = page(rows, asked.query.get("after_id"), asked.query.get("limit"), most=1000)
        return {
            "data": found,
            "has_more": more,
            "first_id": found[0]["id"] if found else None,
            "last_id": found[-1]["id"] if found else None,
        }

    def _version(self, asked: Asked) -> None:
        if asked.headers.get("anthropic-version") not in _VERSIONS:
            raise Refused(400, "invalid_request_error", "anthropic-version: header is required")

    def _admin(self, asked: Asked) -> None:
        self._version(asked)
        given = _credential(asked)
        if given == self.admin:
            return
        if any(key.digest == _digest(given) for key in self.keys.values()):
            raise Refused(403, "permission_error", "An Admin API key is needed here.")
        # Careless on purpose: nothing of this text may pass on.
        raise Refused(401, "authentication_error", f"invalid x-api-key {given}")

    def _key(self, key_id: str) -> Key:
        if key_id not in self.keys:
            raise Refused(404, "not_found_error", f"API key {key_id} not found.")
        return self.keys[key_id]


def _credential(asked: Asked) -> str:
    """Return the key of a request: the vendor's later libraries send it as a bearer token."""
    bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
    return asked.headers.get("x-api-key", bearer)


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
