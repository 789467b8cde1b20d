"""What both clients do, without doing it: flows that say which call comes next (see calls.py).

A core holds the addresses, one token and the values read so far. Threads may
share it: each of its changes is one assignment, and at worst two threads ask
the same at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from keyvault.client import answers, calls
from keyvault.client.answers import BadIdentity
from keyvault.client.calls import Answer, Away, Call, Flow, Listen, Pause
from keyvault.client.held import Bearer, Held
from keyvault.client.settings import Settings, require_safe
from keyvault.client.values import Value

WELL_KNOWN = "/.well-known/keyvault"
_BEAT_KEYS = 50  # What the gateway takes in one report.
_ENDLESS_S = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Addresses:
    """What the console says of itself."""

    api: str
    gateway: str
    token_endpoint: str
    device_authorization_endpoint: str


class Core:
    """The flows of one client."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """Begin with nothing known but the settings. Raises nothing and calls nobody."""
        self.settings, self.clock = settings, clock
        self._addresses: Addresses | None = None
        self._bearer: Bearer | None = None
        self._held: dict[str, Held] = {}
        if settings.token is not None:
            text = settings.token.reveal().decode()
            self._bearer = Bearer.lasting(text, lifetime_s=_ENDLESS_S, now=clock())

    def get(self, name: str) -> Flow[Value]:
        """Return a key's value: from memory while it is young, else asked for anew.

        Raises Away when the server is away and nothing usable is held,
        NotGranted, BadIdentity, Refused.
        """
        held = self._held.get(name)
        if held is not None and held.is_young(self.clock(), self.settings.refresh_s):
            return held.value
        return (yield from self.refresh(name))

    def read(self, name: str, version: str) -> Flow[Value]:
        """Return one version of a key, asking now; nothing of it is held. Raises as `get`.

        version: `current`, `pending`, or a number.
        """
        where = (yield from self.addresses()).gateway
        url = f"{where}/v1/keys/{name}?{urlencode({'version': version})}"
        kind = {"Accept": "application/json"}
        answer = yield from self.asked(Call("GET", url, kind, None, self.settings.timeout_s))
        if answer.status != HTTPStatus.OK:
            raise answers.refusal(answer, where)
        return answers.value(answer, name, where)

    def refresh(self, name: str) -> Flow[Value]:
        """Return a key's value, asking now; the last good one while the server is away."""
        try:
            return (yield from self._read(name))
        except Away:
            held = self._held.get(name)
            if held is None or not held.is_usable(self.clock(), self.settings.stale_for_s):
                raise
            return held.value
        except (answers.Refused, BadIdentity):
            # A right that was taken away takes along what it gave.
            self._held.pop(name, None)
            raise

    def keep_fresh(self, names: tuple[str, ...]) -> Flow[None]:
        """Ask for the named keys again and again before they are old. Ends never by itself."""
        while True:
            for name in names:
                with suppress(Away, answers.Refused, BadIdentity):
                    # What stands in the way is said to whoever calls `get`.
                    yield from self.refresh(name)
            yield Pause(self.settings.refresh_s / 2)

    def heartbeat(self, *, healthy: bool = True) -> Flow[None]:
        """Tell the gateway which versions are held here, and whether this program is well.

        Says nothing while nothing is held. Raises as `get`; a key that is no longer
        granted is held no longer, and is told of once the others are.
        """
        held = {name: held.value.version for name, held in tuple(self._held.items())}
        lost: Exception | None = None
        while held:
            batch = dict(islice(held.items(), _BEAT_KEYS))
            where = (yield from self.addresses()).gateway
            answer = yield from self._beat(where, batch, healthy=healthy)
            told = set(batch)
            if answer.status != HTTPStatus.OK:
                lost = answers.refusal(answer, where)
                told &= answers.keys_refused(answer)
                if not told:
                    raise lost
                for name in told:
                    self._held.pop(name, None)
            held = {name: version for name, version in held.items() if name not in told}
        if lost is not None:
            raise lost

    def _beat(self, where: str, batch: Mapping[str, int], *, healthy: bool) -> Flow[Answer]:
        content = json.dumps({"keys": batch, "healthy": healthy}).encode()
        kind = {"Accept": "application/json", "Content-Type": "application/json"}
        call = Call("POST", f"{where}/v1/heartbeat", kind, content, self.settings.timeout_s)
        return (yield from self.asked(call))

    def api(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] = calls.NOTHING,
        headers: Mapping[str, str] = calls.NOTHING,
        timeout_s: float | None = None,
    ) -> Flow[dict[str, Any]]:
        """Call the automation API and return its object. Raises as `get`."""
        answer = yield from self.answer(
            method, path, body=body, query=query, headers=headers, timeout_s=timeout_s
        )
        return answer.json()

    def answer(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] = calls.NOTHING,
        headers: Mapping[str, str] = calls.NOTHING,
        timeout_s: float | None = None,
    ) -> Flow[Answer]:
        """Call the automation API and return the whole answer, with its ETag. Raises as `get`."""
        where = (yield from self.addresses()).api
        url = f"{where}{path}" + (f"?{urlencode(query)}" if query else "")
        kind = {"Accept": "application/json", **headers}
        if body is not None:
            kind["Content-Type"] = "application/json"
        content = json.dumps(body).encode() if body is not None else None
        call = Call(method, url, kind, content, timeout_s or self.settings.timeout_s)
        answer = yield from self.asked(call)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise answers.refusal(answer, where)
        return answer

    def addresses(self) -> Flow[Addresses]:
        """Return where everything is, asking the console once. Raises Away, BadSettings."""
        if self._addresses is None:
            url = f"{self.settings.url}{WELL_KNOWN}"
            answer = yield Call("GET", url, timeout_s=self.settings.timeout_s)
            self._addresses = _addresses(answer, self.settings.url)
        return self._addresses

    def asked(self, call: Call, *, as_stream: bool = False) -> Flow[Answer]:
        """Return the answer to a call under our token; once more with a new one after a 401."""
        answer: Answer = yield from self._sent(call, as_stream=as_stream)
        if answer.status == HTTPStatus.UNAUTHORIZED and self.settings.identity is not None:
            self._bearer = None
            answer = yield from self._sent(call, as_stream=as_stream)
        return answer

    def _sent(self, call: Call, *, as_stream: bool) -> Flow[Answer]:
        borne = calls.bearing(call, (yield from self.token()))
        answer: Answer = yield Listen(borne) if as_stream else borne
        return answer

    def _read(self, name: str) -> Flow[Value]:
        where = (yield from self.addresses()).gateway
        held = self._held.get(name)
        headers = {"Accept": "application/json"}
        if held is not None and held.value.etag:
            headers["If-None-Match"] = f'"{held.value.etag.strip(chr(34))}"'
        url = f"{where}/v1/keys/{name}"
        answer = yield from self.asked(Call("GET", url, headers, None, self.settings.timeout_s))
        if answer.status == HTTPStatus.NOT_MODIFIED and held is not None:
            found = held.value
        elif answer.status == HTTPStatus.OK:
            found = answers.value(answer, name, where)
        else:
            raise answers.refusal(answer, where)
        self._held[name] = Held(found, self.clock())
        return found

    def token(self) -> Flow[str]:
        """Return a token that holds, a new one when it is due. Raises Away, BadIdentity."""
        bearer, now = self._bearer, self.clock()
        if bearer is None or now >= bearer.renew_at:
            try:
                bearer = yield from self._renewed()
            except Away:
                if bearer is None or now >= bearer.expires_at:
                    raise
        return bearer.text.reveal().decode()

    def _renewed(self) -> Flow[Bearer]:
        if self.settings.identity is None:
            raise BadIdentity(
                "Nothing says who this program is. Set KEYVAULT_CLIENT_ID and "
                "KEYVAULT_CLIENT_SECRET_FILE, or sign in: keyvault login"
            )
        endpoint = (yield from self.addresses()).token_endpoint
        fields = yield from self.settings.identity.fields(endpoint=endpoint, now=self.clock())
        if self.settings.keys:
            fields["scope"] = " ".join(self.settings.keys)
        asked_at = self.clock()
        answer = yield calls.form(endpoint, fields)
        said = answer.json()
        if answer.status != HTTPStatus.OK or "access_token" not in said:
            raise answers.token_refusal(answer, self.settings.url)
        lifetime_s = float(said.get("expires_in", 0))
        self._bearer = Bearer.lasting(said["access_token"], lifetime_s=lifetime_s, now=asked_at)
        return self._bearer


def _addresses(answer: Answer, url: str) -> Addresses:
    if answer.status != HTTPStatus.OK:
        raise answers.away(answer, url)
    said = answer.json()
    names = ("api", "gateway", "token_endpoint", "device_authorization_endpoint")
    if not all(isinstance(said.get(name), str) for name in names):
        raise Away(url, "something else than keyvault answers there")
    return Addresses(*(require_safe(said[name]) for name in names))
