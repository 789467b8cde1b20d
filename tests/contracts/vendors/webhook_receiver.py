"""A receiver of our webhooks: it checks signatures on its own, and fetches values elsewhere.

Its check of a signature is written anew from the specification, so that it does not agree with
ours by being ours.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from base64 import b64decode, b64encode
from typing import Any

from tests.contracts.vendors.server import Answer, Asked, Refused, Vendor

KEY = "orders-db"


def new_secret() -> str:
    return "whsec_" + b64encode(secrets.token_bytes(32)).decode()


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    key = b64decode(secret.removeprefix("whsec_"))
    signed = message_id.encode() + b"." + timestamp.encode() + b"." + body
    return "v1," + b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


class Receiver(Vendor):
    """A consumer of one key. `gateway` holds the values by version id."""

    routes = (("POST", "/hook", "hook"), ("GET", "/status", "status"))

    def __init__(self) -> None:
        super().__init__()
        self.secret = new_secret()
        self.gateway: dict[str, bytes] = {}
        self.is_slow = False
        self.is_ill = False
        self.goes_by: str | None = None
        self.loaded: bytes | None = None
        self.staged: list[str] = []
        self.seen: list[str] = []
        self.events: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.tamper: Any = None

    def refusal(self, refused: Refused) -> Any:
        return {"error": refused.message}

    # What the bench asks of a place.

    def consumed(self) -> bytes | None:
        return self.loaded

    def state(self) -> object:
        return (self.goes_by, self.loaded, tuple(self.staged))

    def overwrite(self) -> None:
        self.goes_by, self.loaded = None, b"typed-by-hand"

    def settle(self) -> None:
        """Fetch the value of the version that it goes by."""
        if self.goes_by is not None:
            self.loaded = self.gateway[self.goes_by]

    # What keyvault sees.

    def hook(self, asked: Asked) -> Any:
        self._require_signed(asked)
        if asked.headers["webhook-id"] in self.seen:
            raise Refused(409, "", "This message was here before.")
        self.seen.append(asked.headers["webhook-id"])
        self.events.append(asked.body)
        self.bodies.append(asked.sent)
        event, data = asked.body["type"], asked.body["data"]
        if data["key"] != KEY:
            raise Refused(404, "", "No such key here.")
        getattr(self, "_" + event.rpartition(".")[2])(data["version_id"])
        return Answer(204, None)

    def status(self, asked: Asked) -> Any:
        self._require_signed(asked)
        if asked.query.get("key") != KEY:
            raise Refused(404, "", "No such key here.")
        said = {
            "key": KEY,
            "state": self._state(),
            "version_id": self.goes_by,
            "staged": self.staged,
        }
        body = json.dumps(said).encode()
        message_id, now = asked.headers["webhook-id"], str(int(time.time()))
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": now,
            "webhook-signature": signature(self.secret, message_id, now, body),
        }
        answer = Answer(200, said, headers)
        return self.tamper(answer) if self.tamper else answer

    def _state(self) -> str:
        if self.goes_by is None:
            return "empty" if self.loaded is None else "foreign"
        if self.loaded != self.gateway[self.goes_by]:
            return "loading"
        return "failing" if self.is_ill else "ready"

    def _staged(self, version_id: str) -> None:
        if version_id not in (self.goes_by, *self.staged):
            self.staged.append(version_id)

    def _current(self, version_id: str) -> None:
        self.goes_by = version_id
        self._discarded(version_id)
        if not self.is_slow:
            self.settle()

    def _discarded(self, version_id: str) -> None:
        self.staged = [one for one in self.staged if one != version_id]

    def _removed(self, version_id: str) -> None:
        if version_id == self.goes_by:
            self.goes_by = self.loaded = None

    def _require_signed(self, asked: Asked) -> None:
        headers = asked.headers
        message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        right = signature(self.secret, message_id, timestamp, asked.sent)
        given = headers.get("webhook-signature", "").split(" ")
        if not any(hmac.compare_digest(right, one) for one in given):
            raise Refused(401, "", "The signature is wrong.")
        if abs(time.time() - int(timestamp)) > 300:
            raise Refused(401, "", "The message is too old.")
