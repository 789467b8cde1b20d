"""A fake of GitHub's REST API for the secrets and variables of Actions.

It holds the private keys, so that it opens each sealed box as GitHub does, and shows no value.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from tests.contracts.vendors.server import Answer, Asked, Refused, Vendor

REPOSITORY, ENVIRONMENT = "octo-org/shop", "prod east"
_ROOT = r"/repos/([^/]+/[^/]+)/(actions|environments/[^/]+)"
_START = datetime(2026, 1, 1, tzinfo=UTC)


class Place:
    """A repository or one of its environments."""

    def __init__(self) -> None:
        self.private = PrivateKey.generate()
        self.key_id = str(secrets.randbelow(10**18))
        self.secrets: dict[str, tuple[bytes, str]] = {}
        self.variables: dict[str, str] = {}

    def public_key(self) -> dict[str, str]:
        return {"key_id": self.key_id, "key": b64encode(bytes(self.private.public_key)).decode()}


class GitHubServer(Vendor):
    """Places by repository and by what stands before `/secrets`."""

    routes = (
        ("GET", rf"{_ROOT}/secrets/public-key", "public_key"),
        ("GET", rf"{_ROOT}/secrets/([^/]+)", "get_secret"),
        ("PUT", rf"{_ROOT}/secrets/([^/]+)", "put_secret"),
        ("DELETE", rf"{_ROOT}/secrets/([^/]+)", "delete_secret"),
        ("POST", rf"{_ROOT}/variables", "create_variable"),
        ("GET", rf"{_ROOT}/variables/([^/]+)", "get_variable"),
        ("PATCH", rf"{_ROOT}/variables/([^/]+)", "update_variable"),
        ("DELETE", rf"{_ROOT}/variables/([^/]+)", "delete_variable"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.token = f"github_pat_{secrets.token_urlsafe(24)}"
        self.clock = _START
        self.denied: set[str] = set()
        self.writes_left = 1_000
        self.places = {
            (REPOSITORY, "actions"): Place(),
            (REPOSITORY, f"environments/{ENVIRONMENT}"): Place(),
        }

    def place(self, under: str = "actions") -> Place:
        return self.places[REPOSITORY, under]

    def refusal(self, refused: Refused) -> Any:
        url = "https://docs.github.com/rest/actions/secrets"
        return {
            "message": refused.message,
            "documentation_url": url,
            "status": str(refused.status),
        }

    # What the bench asks of a place.

    def consumed(self) -> bytes | None:
        found = self.place().secrets.get("API_KEY")
        return found[0] if found else None

    def state(self) -> object:
        return {
            key: (dict(place.secrets), dict(place.variables)) for key, place in self.places.items()
        }

    def overwrite(self) -> None:
        self.store(self.place(), "API_KEY", b"typed-by-hand")

    def settle(self) -> None:
        """Jobs read a secret when they start: there is nothing to take up."""

    def store(self, place: Place, name: str, value: bytes) -> None:
        self.clock += timedelta(seconds=1)
        place.secrets[name.upper()] = (value, self.clock.strftime("%Y-%m-%dT%H:%M:%SZ"))

    # The API.

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, self.refusal(Refused(401, "", "Bad credentials")))
        if not asked.headers.get("user-agent"):
            return Answer(403, self.refusal(Refused(403, "", "User-Agent is required.")))
        return super().answer(asked)

    def public_key(self, _: Asked, repository: str, under: str) -> Any:
        return self._place(repository, under).public_key()

    def get_secret(self, _: Asked, repository: str, under: str, name: str) -> Any:
        found = self._place(repository, under).secrets.get(name.upper())
        if found is None:
            raise Refused(404, "", "Not Found")
        return {"name": name.upper(), "created_at": found[1], "updated_at": found[1]}

    def put_secret(self, asked: Asked, repository: str, under: str, name: str) -> Any:
        self._require("secrets")
        place = self._place(repository, under)
        if not self.writes_left:
            raise Refused(403, "", "Resource not accessible by personal access token")
        if asked.body["key_id"] != place.key_id:
            raise Refused(422, "", "The key_id is not that of the public key.")
        try:
            box = b64decode(asked.body["encrypted_value"], validate=True)
            value = SealedBox(place.private).decrypt(box)
        except (ValueError, CryptoError):
            raise Refused(422, "", "The value is not sealed to the public key.") from None
        answer = Answer(204, None) if name.upper() in place.secrets else Answer(201, {})
        self.store(place, name, value)
        self.writes_left -= 1
        return answer

    def delete_secret(self, _: Asked, repository: str, under: str, name: str) -> Any:
        self._require("secrets")
        if self._place(repository, under).secrets.pop(name.upper(), None) is None:
            raise Refused(404, "", "Not Found")
        return Answer(204, None)

    def create_variable(self, asked: Asked, repository: str, under: str) -> Any:
        self._require("variables")
        place, name = self._place(repository, under), asked.body["name"].upper()
        if name in place.variables:
            raise Refused(409, "", "Already exists")
        place.variables[name] = asked.body["value"]
        return Answer(201, {})

    def get_variable(self, _: Asked, repository: str, under: str, name: str) -> Any:
        return {
            "name": name.upper(),
            "value": self._variables(repository, under, name)[name.upper()],
        }

    def update_variable(self, asked: Asked, repository: str, under: str, name: str) -> Any:
        self._require("variables")
        self._variables(repository, under, name)[name.upper()] = asked.body["value"]
        return Answer(204, None)

    def delete_variable(self, _: Asked, repository: str, under: str, name: str) -> Any:
        self._require("variables")
        del self._variables(repository, under, name)[name.upper()]
        return Answer(204, None)

    def _variables(self, repository: str, under: str, name: str) -> dict[str, str]:
        found = self._place(repository, under).variables
        if name.upper() not in found:
            raise Refused(404, "", "Not Found")
        return found

    def _place(self, repository: str, under: str) -> Place:
        found = self.places.get((repository, under))
        if found is None:
            raise Refused(404, "", "Not Found")
        return found

    def _require(self, what: str) -> None:
        if what in self.denied:
            raise Refused(403, "", "Resource not accessible by personal access token")
