"""How a program proves who it is: each identity is a flow that ends in the fields of a token request.

Nothing here is stored longer than one request, but for what a person or a
platform has put into the settings.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote

from keyvault.client.answers import BadIdentity
from keyvault.client.calls import Call, Flow
from keyvault.crypto.secret import Secret

if TYPE_CHECKING:
    from joserfc.jwk import Key

CLIENT_CREDENTIALS = "client_credentials"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_S = 60
_KEY_TYPES: tuple[Literal["EC", "RSA", "OKP"], ...] = ("EC", "RSA", "OKP")
_ALGORITHMS = {
    "P-256": "ES256",
    "P-384": "ES384",
    "P-521": "ES512",
    "Ed25519": "Ed25519",
    "RSA": "PS256",
}


class Identity(Protocol):
    """One way to prove oneself."""

    def fields(self, *, endpoint: str, now: float) -> Flow[dict[str, str]]:
        """Return the form fields that get a token at `endpoint`. Raises BadIdentity."""
        ...


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A stored secret (RFC 6749 section 4.4), given as text or as the path of a file.

    A file is read for each token, so that a new secret needs no restart.
    """

    client_id: str
    secret: Secret | None = None
    path: Path | None = None

    def fields(self, *, endpoint: str, now: float) -> Flow[dict[str, str]]:  # noqa: ARG002
        """Return the fields of a client credentials grant. Raises BadIdentity."""
        yield from ()
        text = self.secret.reveal().decode() if self.secret else _read(self.path)
        return {
            "grant_type": CLIENT_CREDENTIALS,
            "client_id": self.client_id,
            "client_secret": text,
        }


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key pair of the agent's own (private_key_jwt, RFC 7523): a JWK or PEM file."""

    client_id: str
    path: Path

    def fields(self, *, endpoint: str, now: float) -> Flow[dict[str, str]]:
        """Return the fields with a freshly signed assertion, good once. Raises BadIdentity."""
        yield from ()
        return {
            "grant_type": CLIENT_CREDENTIALS,
            "client_id": self.client_id,
            "client_assertion_type": ASSERTION,
            "client_assertion": _signed(self, audience=endpoint, now=now),
        }


@dataclass(frozen=True, slots=True)
class OutsideToken:
    """A token that a platform keeps for the job: a variable (GitLab) or a file (Kubernetes)."""

    client_id: str = ""
    text: Secret | None = None
    path: Path | None = None

    def fields(self, *, endpoint: str, now: float) -> Flow[dict[str, str]]:  # noqa: ARG002
        """Return the fields of a token exchange (RFC 8693). Raises BadIdentity."""
        yield from ()
        found = self.text.reveal().decode() if self.text else _read(self.path)
        return _exchange(found, self.client_id)


@dataclass(frozen=True, slots=True)
class GitHubActions:
    """The token that GitHub mints for a job with `id-token: write`, asked for when it is needed."""

    url: str
    bearer: Secret
    audience: str
    client_id: str = ""

    def fields(self, *, endpoint: str, now: float) -> Flow[dict[str, str]]:  # noqa: ARG002
        """Return the fields of a token exchange. Raises BadIdentity, Away."""
        joint = "&" if "?" in self.url else "?"
        answer = yield Call(
            "GET",
            f"{self.url}{joint}audience={quote(self.audience, safe='')}",
            {
                "Authorization": f"Bearer {self.bearer.reveal().decode()}",
                "Accept": "application/json",
            },
        )
        found = answer.json().get("value")
        if answer.status != HTTPStatus.OK or not isinstance(found, str):
            raise BadIdentity(
                f"GitHub gives the job no token ({answer.status}). "
                "Give the job the permission `id-token: write`."
            )
        return _exchange(found, self.client_id)


def _exchange(token: str, client_id: str) -> dict[str, str]:
    named = {"client_id": client_id} if client_id else {}
    return {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": JWT,
        **named,
    }


def _read(path: Path | None) -> str:
    if path is None:
        raise BadIdentity("There is neither a secret nor a file that holds it.")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadIdentity(f"{path} cannot be read: {error.strerror}.") from error


def _signed(key: PrivateKey, *, audience: str, now: float) -> str:
    """Return the assertion (RFC 7523 section 3). Raises BadIdentity."""
    try:
        from joserfc import jwt  # noqa: PLC0415 - only who signs needs it
    except ImportError as error:
        raise BadIdentity("Signing takes the package joserfc. Install it.") from error
    pair = _key_pair(key.path)
    algorithm = pair.get("alg") or _ALGORITHMS.get(str(pair.get("crv") or pair.key_type), "")
    claims = {
        "iss": key.client_id,
        "sub": key.client_id,
        "aud": audience,
        "iat": int(now),
        "exp": int(now) + _ASSERTION_S,
        "jti": os.urandom(16).hex(),
    }
    header = {"alg": str(algorithm), "typ": "JWT"}
    if pair.kid:
        header["kid"] = str(pair.kid)
    return str(jwt.encode(header, claims, pair, algorithms=[str(algorithm)]))


def _key_pair(path: Path) -> Key:
    """Return the key of a JWK or PEM file. Raises BadIdentity."""
    from joserfc.errors import JoseError  # noqa: PLC0415
    from joserfc.jwk import import_key  # noqa: PLC0415

    text = _read(path)
    tries: list[Callable[[], Key]]
    if text.startswith("{"):
        tries = [lambda: import_key(json.loads(text))]
    else:
        tries = [functools.partial(import_key, text, kind) for kind in _KEY_TYPES]
    for read in tries:
        with suppress(JoseError, ValueError, TypeError):
            pair = read()
            if pair.is_private:
                return pair
    raise BadIdentity(f"{path} holds no private key that can sign: a JWK or PEM file is wanted.")
