"""What a flow asks of its transport, and what it is told. Plain values: no sockets, no event loop.

A flow is a generator: it yields a step and is sent the answer, so that one
description of what to do serves the blocking and the asynchronous client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar
from urllib.parse import urlencode

from keyvault.client.values import Value

T = TypeVar("T")
NOTHING: Mapping[str, str] = {}


class Away(Exception):
    """The server does not answer now; the same call may work later.

    Thrown into a flow by its transport, and raised by flows. `retry_after_s` is
    what the server asked for, or None. `is_undone`: the call has certainly done nothing.
    """

    def __init__(
        self,
        where: str,
        why: str,
        *,
        retry_after_s: float | None = None,
        is_undone: bool = False,
    ) -> None:
        super().__init__(f"keyvault at {where} is away: {why}.")
        self.where, self.why, self.retry_after_s = where, why, retry_after_s
        self.is_undone = is_undone


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. Answered with an Answer, or Away is thrown into the flow."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    timeout_s: float = 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(default=b"", repr=False)

    def json(self) -> dict[str, Any]:
        """Return the JSON object of the body, or an empty one where there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Listen:
    """Open a stream in place of the last one. Answered like a Call, with its body still to come."""

    call: Call


@dataclass(frozen=True, slots=True)
class Hear:
    """Wait for bytes of the open stream: empty at its end, None when none came in time."""

    within_s: float


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Hand one value to whoever follows the flow, and go on."""

    value: Value


Step: TypeAlias = Call | Listen | Hear | Pause | Tell
Flow: TypeAlias = Generator[Step, Any, T]


class Running(Generic[T]):
    """A flow under way: `step` is what to do next, None at its end, when `result` is there."""

    def __init__(self, flow: Flow[T]) -> None:
        """Run up to the first step. Raises what the flow raises, as do the other methods."""
        self._flow = flow
        self.step: Step | None = None
        self.result: T
        self.advance(None)

    def advance(self, answer: object) -> None:
        """Say what the step was answered with, and run up to the next one."""
        self._run(lambda: self._flow.send(answer))

    def fail(self, away: Away) -> None:
        """Say that nobody answered, and run up to the next step."""
        self._run(lambda: self._flow.throw(away))

    def _run(self, go_on: Callable[[], Step]) -> None:
        try:
            self.step = go_on()
        except StopIteration as end:
            self.step, self.result = None, end.value


def form(url: str, fields: Mapping[str, str], *, headers: Mapping[str, str] = NOTHING) -> Call:
    """Return a POST of form fields, as OAuth wants them."""
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    return Call("POST", url, {**kind, **headers}, urlencode(fields).encode())


def bearing(call: Call, token: str) -> Call:
    """Return the same call with a bearer token (RFC 6750 section 2.1)."""
    headers = {**call.headers, "Authorization": f"Bearer {token}"}
    return Call(call.method, call.url, headers, call.body, call.timeout_s)
