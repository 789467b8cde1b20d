"""A real OpenID Connect issuer on loopback, honest or hostile as a test tells it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import transaction

from keyvault.agents import bindings, federation, trusts
from keyvault.agents.models import Agent, Binding, Trust
from keyvault.agents.proofs import Refused
from keyvault.agents.terms import Terms
from keyvault.api import oauth
from tests.keyvault.agents import builders, proving
from tests.keyvault.agents.proving import Signer

AUDIENCE = "https://keyvault.example"
DISCOVERY = "/.well-known/openid-configuration"
JWT_KIND = oauth.OUTSIDE[0]

GITHUB = {
    "repository_id": "74",
    "repository_owner_id": "65",
    "environment": "production",
    "job_workflow_ref": "octo/pay/.github/workflows/deploy.yml@refs/heads/main",
}
GITLAB = {
    "project_id": "22",
    "namespace_id": "72",
    "ref": "main",
    "ref_protected": "true",
    "environment": "production",
}
KUBERNETES = {
    "sub": "system:serviceaccount:payments:refund",
    "kubernetes.io": {
        "namespace": "payments",
        "serviceaccount": {"uid": "8f1d3d0e-6d5c-4c5e-9b1a-0d8b5f7c2a11"},
    },
}


@dataclass
class Issuer:
    """What the server says. `answers` overrule a path by a function that gets the handler."""

    port: int = 0
    signers: list[Signer] = field(default_factory=lambda: [Signer("RS256")])
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    is_away: bool = False

    @property
    def url(self) -> str:
        """Return the issuer as tokens name it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def terms(self) -> Terms:
        """Return terms that lead here."""
        return Terms("github", self.url, AUDIENCE, "", (self.url,))

    def document(self, path: str) -> Any:
        """Return what an honest issuer answers at a path, or None."""
        if path == DISCOVERY:
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        return {"keys": [signer.public for signer in self.signers]} if path == "/keys" else None

    def claims(self, *, now: datetime, **changes: Any) -> dict[str, Any]:
        """Return the claims of a right token of a GitHub job, with changes; None leaves one out."""
        claims = {
            "iss": self.url,
            "sub": "repo:octo/pay:environment:production",
            "aud": AUDIENCE,
            "iat": int(now.timestamp()),
            "nbf": int(now.timestamp()),
            "exp": int((now + timedelta(minutes=5)).timestamp()),
            "event_name": "push",
            **GITHUB,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, now: datetime, **changes: Any) -> str:
        """Return a right token with changed claims, signed by the newest key."""
        return self.signers[-1].sign(self.claims(now=now, **changes))


def send(
    handler: BaseHTTPRequestHandler, body: bytes, *, status: int = 200, **headers: str
) -> None:
    """Answer a request."""
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def running() -> Iterator[Issuer]:
    """Run an issuer for the block."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            if issuer.is_away:
                self.close_connection = True
                return
            if self.path in issuer.answers:
                issuer.answers[self.path](self)
                return
            found = issuer.document(self.path)
            send(self, json.dumps(found).encode(), status=200 if found else 404)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    issuer.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()


def trusted(issuer: Issuer, *, now: datetime, slug: str = "ci", **changes: Any) -> Trust:
    """Trust an issuer through the service."""
    terms = Terms(**{**as_dict(issuer.terms), **changes})
    with transaction.atomic():
        return trusts.create(slug=slug, title="CI", terms=terms, actor=builders.TESTS, now=now)


def bound(trust: Trust, agent: Agent, *, now: datetime, claims: Any = None) -> Binding:
    """Bind claims to an agent through the service."""
    with transaction.atomic():
        return bindings.create(
            trust_id=trust.pk,
            agent_id=agent.pk,
            claims=GITHUB if claims is None else claims,
            actor=builders.TESTS,
            now=now,
        )


def exchange(token: str, **more: str) -> Any:
    """Send an outside token to the token endpoint."""
    return proving.ask(
        {
            "grant_type": oauth.EXCHANGE,
            "subject_token": token,
            "subject_token_type": JWT_KIND,
            **more,
        }
    )


def refusal(token, *, now, client_id=""):
    """Return the reason, for the ledger, for which a token is refused."""
    with pytest.raises(Refused) as refused:
        federation.vouch(text=token, client_id=client_id, now=now)
    return refused.value.reason


def as_dict(terms: Terms) -> dict[str, Any]:
    """Return terms by name, to change one of them."""
    return {name: getattr(terms, name) for name in Terms.__slots__}
