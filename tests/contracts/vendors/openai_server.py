"""A fake of OpenAI's API: projects, service accounts, their keys and the list of models.

Shapes are those of the vendor's library (`test_openai_kit.py` drives this server with it). A key's
value is answered once, when it is made; afterwards only its hash is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from tests.contracts.vendors.server import Asked, Refused, Vendor, page

_MOST_SECONDS = 31_536_000
MODELS = ("gpt-5", "gpt-5-mini", "text-embedding-3-large")
LIST_MODELS = "api.model.read"


@dataclass
class Key:
    id: str
    name: str
    owner: dict[str, Any]
    digest: str
    tail: str
    created_at: int
    scopes: tuple[str, ...] = ()
    expires_at: int | None = None
    last_used_at: int | None = None


@dataclass
class Project:
    id: str
    name: str
    status: str = "active"
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)


class OpenAIServer(Vendor):
    """One organisation. `admin` may do everything, `reader` may only read."""

    routes = (
        ("GET", r"/v1/models", "models"),
        ("GET", r"/v1/organization/projects/([^/]+)", "project"),
        ("GET", r"/v1/organization/projects/([^/]+)/service_accounts", "accounts"),
        ("GET", r"/v1/organization/projects/([^/]+)/service_accounts/([^/]+)", "account"),
        ("POST", r"/v1/organization/projects/([^/]+)/service_accounts/([^/]+)/api_keys", "create"),
        ("GET", r"/v1/organization/projects/([^/]+)/api_keys", "keys"),
        ("GET", r"/v1/organization/projects/([^/]+)/api_keys/([^/]+)", "key"),
        ("DELETE", r"/v1/organization/projects/([^/]+)/api_keys/([^/]+)", "delete"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.admin = f"sk-admin-{secrets.token_urlsafe(24)}"
        self.reader = f"sk-admin-{secrets.token_urlsafe(24)}"
        self.projects: dict[str, Project] = {}
        self.without_access: set[str] = set()
        self._numbers = itertools.count(1)

    def add_project(self, name: str = "shop") -> Project:
        made = Project(f"proj_{name}{next(self._numbers)}", name)
        self.projects[made.id] = made
        return made

    def add_account(self, project: Project, name: str = "agent") -> str:
        account_id = f"svc_acct_{name}{next(self._numbers)}"
        project.accounts[account_id] = {
            "object": "organization.project.service_account",
            "id": account_id,
            "name": name,
            "role": "member",
            "created_at": int(time.time()),
        }
        return account_id

    def add_person_key(self, project: Project, name: str = "Ann's key") -> str:
        """Give a person a key, as people do in the browser."""
        number = next(self._numbers)
        owner = {
            "type": "user",
            "user": {
                "object": "organization.user",
                "id": f"user_{number}",
                "name": "Ann",
                "email": "ann@example.com",
                "role": "member",
                "created_at": int(time.time()),
            },
        }
        return self._add(project, name, owner)[0].id

    def models(self, asked: Asked) -> Any:
        key = self._holder(asked)
        if key.scopes and LIST_MODELS not in key.scopes:
            raise Refused(403, "missing_scope", f"Missing scopes: {LIST_MODELS}.")
        key.last_used_at = int(time.time())
        rows = [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "system"}
            for name in MODELS
        ]
        return {"object": "list", "data": rows}

    def project(self, asked: Asked, project_id: str) -> Any:
        found = self._project(asked, project_id)
        return {
            "object": "organization.project",
            "id": found.id,
            "name": found.name,
            "created_at": 1_700_000_000,
            "archived_at": 1_750_000_000 if found.status == "archived" else None,
            "status": found.status,
        }

    def accounts(self, asked: Asked, project_id: str) -> Any:
        rows = list(self._project(asked, project_id).accounts.values())
        return self._listing(asked, rows)

    def account(self, asked: Asked, project_id: str, account_id: str) -> Any:
        return self._account(self._project(asked, project_id), account_id)

    def create(self, asked: Asked, project_id: str, account_id: str) -> Any:
        project = self._project(asked, project_id, is_change=True)
        account = self._account(project, account_id)
        if project.status == "archived":
            raise Refused(400, "project_archived", "The project is archived.")
        wanted = self._wanted(asked.body)
        owner = {
            "type": "service_account",
            "service_account": {
                name: account[name] for name in ("object", "id", "name", "role", "created_at")
            },
        }
        key, value = self._add(project, wanted.get("name", "Secret Key"), owner)
        key.scopes = tuple(wanted.get("scopes", ()))
        if "expires_in_seconds" in wanted:
            key.expires_at = key.created_at + wanted["expires_in_seconds"]
        return {
            "object": "organization.project.service_account.api_key",
            "id": key.id,
            "name": key.name,
            "created_at": key.created_at,
            "expires_at": key.expires_at,
            "value": value,
        }

    def keys(self, asked: Asked, project_id: str) -> Any:
        project = self._project(asked, project_id)
        access = asked.query.get("owner_project_access", "active")
        if access not in ("active", "inactive", "any"):
            raise Refused(400, "invalid_value", "owner_project_access takes other values.")
        rows = [self._shown(key) for key in reversed(project.keys.values())]
        chosen = [row for row in rows if access in ("any", row["owner_project_access"])]
        return self._listing(asked, chosen)

    def key(self, asked: Asked, project_id: str, key_id: str) -> Any:
        return self._shown(self._key(self._project(asked, project_id), key_id))

    def delete(self, asked: Asked, project_id: str, key_id: str) -> Any:
        project = self._project(asked, project_id, is_change=True)
        del project.keys[self._key(project, key_id).id]
        return {"object": "organization.project.api_key.deleted", "id": key_id, "deleted": True}

    def refusal(self, refused: Refused) -> Any:
        kind = "invalid_request_error" if refused.status < 500 else "server_error"
        return {
            "error": {
                "message": refused.message,
                "type": kind,
                "param": None,
                "code": refused.kind,
            }
        }

    def _wanted(self, body: Any) -> dict[str, Any]:
        wanted = {} if body is None else body
        kinds = {"name": str, "scopes": list, "expires_in_seconds": int}
        if not isinstance(wanted, dict) or set(wanted) - set(kinds):
            raise Refused(400, "unknown_parameter", f"Unknown parameter in {body}.")
        if any(not isinstance(value, kinds[name]) for name, value in wanted.items()):
            raise Refused(400, "invalid_type", f"Invalid type in {body}.")
        if not 1 <= wanted.get("expires_in_seconds", 1) <= _MOST_SECONDS:
            raise Refused(400, "invalid_value", "expires_in_seconds is out of range.")
        return wanted

    def _add(self, project: Project, name: str, owner: dict[str, Any]) -> tuple[Key, str]:
        value = f"sk-svcacct-{secrets.token_urlsafe(48)}"
        key = Key(
            f"key_{next(self._numbers):06d}",
            name,
            owner,
            _digest(value),
            value[-4:],
            int(time.time()),
        )
        project.keys[key.id] = key
        return key, value

    def _shown(self, key: Key) -> dict[str, Any]:
        owner_id = key.owner[key.owner["type"]]["id"]
        return {
            "object": "organization.project.api_key",
            "id": key.id,
            "name": key.name,
            "redacted_value": f"sk-svcacct-****{key.tail}",
            "created_at": key.created_at,
            "last_used_at": key.last_used_at,
            "expires_at": key.expires_at,
            "owner": key.owner,
            "owner_project_access": "inactive" if owner_id in self.without_access else "active",
        }

    def _listing(self, asked: Asked, rows: list[dict[str, Any]]) -> Any:
        found, more = page(rows, asked.query.get("after"), asked.query.get("limit"), most=100)
        return {
            "object": "list",
            "data": found,
            "first_id": found[0]["id"] if found else None,
            "last_id": found[-1]["id"] if found else None,
            "has_more": more,
        }

    def _project(self, asked: Asked, project_id: str, *, is_change: bool = False) -> Project:
        bearer = _bearer(asked)
        if bearer not in (self.admin, self.reader):
            # The vendor's own text repeats a part of the key; this one is careless on purpose.
            raise Refused(401, "invalid_api_key", f"Incorrect API key provided: {bearer}.")
        if is_change and bearer == self.reader:
            raise Refused(403, "insufficient_permissions", "Missing scopes: api.management.write.")
        if project_id not in self.projects:
            raise Refused(404, "not_found", f"Project {project_id} not found.")
        return self.projects[project_id]

    def _account(self, project: Project, account_id: str) -> dict[str, Any]:
        if account_id not in project.accounts:
            raise Refused(404, "not_found", f"Service account {account_id} not found.")
        return project.accounts[account_id]

    def _key(self, project: Project, key_id: str) -> Key:
        if key_id not in project.keys:
            raise Refused(404, "not_found", f"API key {key_id} not found.")
        return project.keys[key_id]

    def _holder(self, asked: Asked) -> Key:
        bearer = _bearer(asked)
        now = time.time()
        for project in self.projects.values():
            for key in project.keys.values():
                is_over = key.expires_at is not None and key.expires_at <= now
                if key.digest == _digest(bearer) and not is_over:
                    return key
        raise Refused(401, "invalid_api_key", f"Incorrect API key provided: {bearer}.")


def _bearer(asked: Asked) -> str:
    return asked.headers.get("authorization", "").removeprefix("Bearer ")


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()
