"""Read keys as the clients of HashiCorp Vault and OpenBao ask for them: KV version 2, read-only.

The same gate, the same log and the same rights as `/v1/keys`; only addresses
and form are theirs. A key is the secret of its name under the mount `secret/`.
What their servers do beyond reading is not here (docs/gateway.md names it).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from keyvault.gateway import answers, problems, requests
from keyvault.gateway.answers import Answer, Facts
from keyvault.gateway.clock import Clock, Lease
from keyvault.gateway.opening import Opener
from keyvault.gateway.problems import Problem
from keyvault.gateway.reads import CURRENT, Caller, Reads, version_number
from keyvault.gateway.records import Door

if TYPE_CHECKING:
    from granian.rsgi import Scope

    from keyvault.gateway.requests import Wire

_PLACES = ("/v1/secret/", "/v1/sys/", "/v1/auth/")
_DATA = "/v1/secret/data/"
_MOUNTS = "/v1/sys/internal/ui/mounts/secret"
_READS = frozenset({"GET", "HEAD"})
_VERSION = frozenset({"version"})
# Vault's own word for a token that opens nothing.
_DENIED = "permission denied"

Handler = Callable[["Scope", "Wire", Caller], Awaitable[Answer]]
Values = Mapping[str, bytearray]


class VaultProblem(Problem):
    """A refusal in the form of these clients: `{"errors": [...]}`."""

    @classmethod
    def of(cls, problem: Problem) -> VaultProblem:
        """Say the same in their form. They take 403, and not 401, for a token that opens nothing."""
        if problem.status == HTTPStatus.UNAUTHORIZED:
            return cls(HTTPStatus.FORBIDDEN, problem.kind, problem.title, _DENIED)
        found = cls(
            problem.status, problem.kind, problem.title, problem.detail, headers=problem.headers
        )
        found.principal = problem.principal
        return found

    def answer(self, request_id: str) -> Answer:
        """Return the refusal; the request id stands where a person at a terminal reads it."""
        told = answers.of_json(self.status, {"errors": [f"{self.detail} (request {request_id})"]})
        return Answer(told.status, [*told.headers, *self.headers], told.body)


class VaultApi:
    """The doors for clients of Vault."""

    def __init__(self, *, reads: Reads, clock: Clock, lease: Lease, opener: Opener) -> None:
        self._reads, self._clock, self._lease, self._opener = reads, clock, lease, opener
        self._handlers: dict[str, Handler] = {
            "/v1/auth/token/lookup-self": self._token,
            "/v1/sys/health": self._health,
            "/v1/sys/seal-status": self._seal,
        }

    def door(self, method: str, path: str) -> Handler | None:
        """Return what serves an address of theirs, None for any other address. Raises VaultProblem."""
        if not path.startswith(_PLACES):
            return None
        handler = self._handlers.get(path)
        if path.startswith(_DATA):
            handler = self._secret
        elif path == _MOUNTS or path.startswith(f"{_MOUNTS}/"):
            handler = self._mount
        if handler is None:
            raise VaultProblem.of(problems.no_address())
        if method not in _READS:
            raise VaultProblem.of(problems.wrong_method("GET"))
        return _in_their_form(handler)

    async def _secret(self, scope: Scope, _wire: Wire, caller: Caller) -> Answer:
        """`GET /v1/secret/data/{name}`: one key. Their version 0 is the current one."""
        text = requests.query(scope, _VERSION).get("version", CURRENT)
        wanted = CURRENT if text == "0" else version_number(text)
        who = self._reads.bearer(caller)
        found = self._reads.find(who, [scope.path.removeprefix(_DATA)], wanted)
        found = await self._reads.record(caller, who, found, Door.VAULT)
        return self._reads.hand_out(found, lambda keys: _of_secret(*keys[0], caller.request))

    async def _mount(self, _scope: Scope, _wire: Wire, caller: Caller) -> Answer:
        """`GET /v1/sys/internal/ui/mounts/secret/...`: how `bao kv` learns of the second version."""
        self._reads.bearer(caller)
        mount = {"path": "secret/", "type": "kv", "options": {"version": "2"}}
        return answers.of_json(200, {**_about(caller.request), "data": mount})

    async def _token(self, _scope: Scope, _wire: Wire, caller: Caller) -> Answer:
        """`GET /v1/auth/token/lookup-self`: whose the token is and how long it lives, not itself."""
        who = self._reads.bearer(caller)
        token, agent = who.token, who.agent
        left_s = int(token.expires_at.timestamp() - self._clock.now())
        facts = {
            "accessor": token.public_id,
            "display_name": agent.name,
            "entity_id": str(agent.id),
            "expire_time": token.expires_at,
            "explicit_max_ttl": 0,
            "id": "",
            "meta": {"agent": agent.name},
            "num_uses": 0,
            "orphan": True,
            "path": "oauth/token",
            "policies": [],
            "renewable": False,
            "ttl": max(left_s, 0),
            "type": "service",
        }
        return answers.of_json(200, {**_about(caller.request), "data": facts})

    async def _health(self, _scope: Scope, _wire: Wire, _caller: Caller) -> Answer:
        """`GET /v1/sys/health`: `/readyz` in their words; anybody may ask."""
        is_ready = self._lease.holds() and not self._opener.sentence
        facts = {**self._state(), "standby": not is_ready}
        return answers.of_json(200 if is_ready else 503, facts)

    async def _seal(self, _scope: Scope, _wire: Wire, _caller: Caller) -> Answer:
        """`GET /v1/sys/seal-status`: whether there is a key that opens values."""
        return answers.of_json(200, self._state())

    def _state(self) -> dict[str, bool]:
        return {"initialized": True, "sealed": bool(self._opener.sentence)}


def _in_their_form(handler: Handler) -> Handler:
    """Return the handler with their token and their form of refusals."""

    async def serve(scope: Scope, wire: Wire, caller: Caller) -> Answer:
        token = scope.headers.get("x-vault-token") or caller.token
        try:
            return await handler(scope, wire, Caller(token, caller.source, caller.request))
        except Problem as problem:
            raise VaultProblem.of(problem) from None

    return serve


def _about(request_id: str) -> dict[str, object]:
    """Return what stands around the data of every answer."""
    return {
        "request_id": request_id,
        "lease_id": "",
        "renewable": False,
        "lease_duration": 0,
        "wrap_info": None,
        "warnings": None,
        "auth": None,
    }


def _of_secret(found: Facts, values: Values, request_id: str) -> Answer:
    """Return the answer that hands over one key; written by hand like those of `answers`."""
    ends = {"expires_at": found.expires_at, "not_after": found.not_after}
    metadata = {
        "version": found.number,
        "destroyed": False,
        "deletion_time": "",
        "custom_metadata": {name: end for name, end in ends.items() if end} or None,
    }
    body = bytearray(answers.encode(_about(request_id))[:-1])
    body += b',"data":{"metadata":%b,"data":{' % answers.encode(metadata)
    for number, (field, value) in enumerate(values.items()):
        body += (b"," if number else b"") + answers.encode(field) + b":"
        answers.write_text(body, value)
    # A client of Vault looks for a whole login in one place.
    for name, text in found.public.items():
        if name not in values:
            body += b",%b:%b" % (answers.encode(name), answers.encode(text))
    body += b"}}}"
    return answers.of_body(body)
