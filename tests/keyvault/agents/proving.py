"""Prove to be an agent in tests, as its own program would: over HTTP, with real keys."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.test import Client
from joserfc import jwk
from joserfc.jws import JWSRegistry

from keyvault.agents import clients
from keyvault.agents.models import Agent
from keyvault.api import forms, oauth
from tests.keyvault.agents import builders

TOKEN = "/api/v1/oauth/token"
REVOKE = "/api/v1/oauth/revoke"
KINDS = {"Ed25519": ("OKP", "Ed25519"), "ES256": ("EC", "P-256"), "RS256": ("RSA", 2048)}


def secret(agent: Agent, *, now: datetime, **more: Any) -> str:
    """Give an agent a client secret and return its text."""
    with transaction.atomic():
        made = clients.add_secret(agent_id=agent.pk, actor=builders.TESTS, now=now, **more)
    return made.text.reveal().decode()


def ask(form: dict[str, str], *, path: str = TOKEN, **headers: str) -> Any:
    """Send a form to the token endpoint as a program without cookies does."""
    return Client().post(path, _encoded(form), content_type=forms.MEDIA_TYPE, headers=headers)


def by_secret(agent: Agent | str, text: str, **more: str) -> Any:
    """Ask for a token by a client secret in the body."""
    name = agent if isinstance(agent, str) else agent.name
    return ask(
        {"grant_type": "client_credentials", "client_id": name, "client_secret": text, **more}
    )


def _encoded(form: dict[str, str]) -> str:
    from urllib.parse import urlencode

    return urlencode(form)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass
class Signer:
    """A key pair that signs whatever it is told to, also what is wrong."""

    algorithm: str = "Ed25519"
    kid: str = "key-1"
    key: Any = field(init=False)

    def __post_init__(self) -> None:
        kind, size = KINDS[self.algorithm]
        self.key = jwk.generate_key(kind, size)

    @property
    def public(self) -> dict[str, Any]:
        """Return the public half as a JWK with its kid."""
        return {**self.key.as_dict(private=False), "kid": self.kid}

    def sign(self, claims: dict[str, Any] | bytes, **header: Any) -> str:
        """Return a token in compact form; a header member of None is left out."""
        members = {"alg": self.algorithm, "kid": self.kid, **header}
        kept = {name: value for name, value in members.items() if value is not None}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{_b64(json.dumps(kept).encode())}.{_b64(payload)}"
        model = JWSRegistry.algorithms[self.algorithm]
        return f"{signed}.{_b64(model.sign(signed.encode(), self.key))}"


def registered(agent: Agent, *, now: datetime, algorithm: str = "Ed25519") -> Signer:
    """Register a key pair's public half for an agent and return the pair."""
    signer = Signer(algorithm)
    with transaction.atomic():
        clients.add_key(agent_id=agent.pk, public_jwk=signer.public, actor=builders.TESTS, now=now)
    return signer


def assertion_claims(agent: Agent, *, now: datetime, **changes: Any) -> dict[str, Any]:
    """Return the claims of a right assertion, with changes; None leaves a claim out."""
    claims = {
        "iss": agent.name,
        "sub": agent.name,
        "aud": oauth.address(),
        "iat": int(now.timestamp()),
        "exp": int((now + timedelta(seconds=120)).timestamp()),
        "jti": uuid4().hex,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def by_assertion(text: str, **more: str) -> Any:
    """Ask for a token by a signed assertion."""
    return ask(
        {
            "grant_type": "client_credentials",
            "client_assertion_type": oauth.ASSERTION,
            "client_assertion": text,
            **more,
        }
    )
