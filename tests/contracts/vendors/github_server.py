"""A fake of GitHub's API: one app, its installations, and their tokens.

Shapes are those of the vendor's REST documentation, version 2022-11-28, and of PyGithub
(`test_github_app_kit.py` drives this server with it where it is installed). An app's token is
verified as GitHub does: signature, issuer, and a life of at most ten minutes.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from joserfc import jwk

from keyvault.crypto.jwt import BadJwt, PublicKey, parse
from tests.contracts.vendors.server import Answer, Asked, Refused, Vendor

_HOUR_S, _MOST_LIFE_S, _DRIFT_S = 3600, 600, 60
_LEVELS = ("read", "write", "admin")


@dataclass
class Token:
    permissions: dict[str, str]
    repositories: tuple[str, ...]
    ends_at: float


@dataclass
class Installation:
    number: int
    permissions: dict[str, str]
    repositories: tuple[str, ...]
    suspended_at: str | None = None
    tokens: dict[str, Token] = field(default_factory=dict)


class GitHubServer(Vendor):
    """One app with its key; `pem` is the private half, which GitHub does not keep."""

    routes = (
        ("GET", r"/app/installations/([^/]+)", "installation"),
        ("POST", r"/app/installations/([^/]+)/access_tokens", "make_token"),
        ("GET", r"/installation/repositories", "repositories"),
        ("DELETE", r"/installation/token", "end_token"),
    )

    def __init__(self) -> None:
        super().__init__()
        key = jwk.generate_key("RSA", 2048)
        self.pem = key.as_pem(private=True).decode()
        self.key = PublicKey.of(key.as_dict(private=False))
        self.app = "Iv23li0123456789abcd"
        self.installations: dict[int, Installation] = {}

    def add_installation(self) -> Installation:
        number = 1000 + len(self.installations)
        rights = {"contents": "write", "issues": "write", "metadata": "read"}
        made = Installation(number, rights, ("shop", "docs"))
        self.installations[number] = made
        return made

    def refusal(self, refused: Refused) -> Any:
        return {"message": refused.message, "documentation_url": "https://docs.github.com/rest"}

    def installation(self, asked: Asked, number: str) -> Any:
        found = self._installation(asked, number)
        return {
            "id": found.number,
            "app_slug": "keyvault-test",
            "permissions": found.permissions,
            "repository_selection": "selected",
            "suspended_at": found.suspended_at,
        }

    def make_token(self, asked: Asked, number: str) -> Any:
        found = self._installation(asked, number)
        if found.suspended_at:
            raise Refused(403, "suspended", "This installation has been suspended")
        sent = asked.body or {}
        permissions = sent.get("permissions") or dict(found.permissions)
        for name, level in permissions.items():
            most = found.permissions.get(name)
            if most is None or _LEVELS.index(level) > _LEVELS.index(most):
                raise Refused(422, "rights", "The permissions requested are not granted.")
        names = tuple(sent.get("repositories") or ())
        if not set(names) <= set(found.repositories):
            raise Refused(
                422, "repository", "There is at least one repository that does not exist."
            )
        value = f"ghs_{secrets.token_urlsafe(30)}"
        token = Token({"metadata": "read", **permissions}, names, time.time() + _HOUR_S)
        found.tokens[_digest(value)] = token
        return Answer(201, {"token": value, "expires_at": _text(token.ends_at), **_rights(token)})

    def repositories(self, asked: Asked) -> Any:
        found, digest = self._holder(asked)
        names = found.tokens[digest].repositories or found.repositories
        rows = [{"id": at, "name": name} for at, name in enumerate(names, 1)]
        return {"total_count": len(rows), "repositories": rows[: int(asked.query["per_page"])]}

    def end_token(self, asked: Asked) -> Any:
        found, digest = self._holder(asked)
        del found.tokens[digest]
        return Answer(204, None)

    def _holder(self, asked: Asked) -> tuple[Installation, str]:
        _require_agent(asked)
        digest = _digest(_bearer(asked))
        for found in self.installations.values():
            token = found.tokens.get(digest)
            if token is not None and token.ends_at > time.time():
                return found, digest
        raise Refused(401, "token", "Bad credentials")

    def _installation(self, asked: Asked, number: str) -> Installation:
        _require_agent(asked)
        self._require_app(_bearer(asked))
        found = self.installations.get(int(number)) if number.isdigit() else None
        if found is None:
            raise Refused(404, "installation", "Not Found")
        return found

    def _require_app(self, text: str) -> None:
        try:
            token = parse(text)
            self.key.verify(token)
        except BadJwt:
            raise Refused(401, "jwt", "A JSON web token could not be decoded") from None
        issued, ends = token.claims.get("iat", 0), token.claims.get("exp", 0)
        now = time.time()
        if token.text("iss") != self.app or not issued <= now + _DRIFT_S or not now < ends:
            raise Refused(401, "jwt", "'Expiration time' claim ('exp') must be in the future")
        if ends > now + _MOST_LIFE_S:
            raise Refused(401, "jwt", "'Expiration time' claim ('exp') is too far in the future")


def _require_agent(asked: Asked) -> None:
    if not asked.headers.get("user-agent"):
        raise Refused(403, "agent", "Request forbidden by administrative rules.")


def _rights(token: Token) -> dict[str, Any]:
    chosen = [{"id": at, "name": name} for at, name in enumerate(token.repositories, 1)]
    found: dict[str, Any] = {"permissions": token.permissions, "repository_selection": "all"}
    return (
        {**found, "repository_selection": "selected", "repositories": chosen} if chosen else found
    )


def _bearer(asked: Asked) -> str:
    kind, _, text = asked.headers.get("authorization", "").partition(" ")
    return text if kind.lower() in {"bearer", "token"} else ""


def _digest(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def _text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
