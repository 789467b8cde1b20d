"""Read what the server answered: a value, a token, or an exception that says what to do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

from keyvault.client.calls import Answer, Away
from keyvault.client.values import ONE, Value
from keyvault.crypto.secret import Secret

_TRANSIENT = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
_LONGEST_WAIT_S = 300.0


class BadIdentity(Exception):
    """The server does not accept who this program says it is. The message says the mend."""


class Refused(Exception):
    """The server refuses the call. `problem` is its problem document (RFC 9457)."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        detail = problem.get("detail") or problem.get("title") or f"The server answered {status}."
        super().__init__(str(detail))
        self.status, self.problem = status, dict(problem)

    @property
    def next_action(self) -> Any:  # noqa: ANN401 - whatever the problem document holds
        """Return what the server says to do next, or None."""
        return self.problem.get("next_action")


class NotGranted(Refused):
    """No such key is granted to this agent. `next_action` says how to ask for it."""


def away(answer: Answer, where: str) -> Away:
    """Return the exception of a server that asks to come back later."""
    return Away(
        where,
        f"it answered {answer.status}",
        retry_after_s=_retry_after_s(answer),
        is_undone=answer.status == HTTPStatus.TOO_MANY_REQUESTS,
    )


def refusal(answer: Answer, where: str) -> Exception:
    """Return the exception that a failed call means."""
    if answer.status in _TRANSIENT:
        return away(answer, where)
    if answer.status == HTTPStatus.UNAUTHORIZED:
        return BadIdentity("The token is not accepted. See that the agent is active.")
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
        return NotGranted(answer.status, answer.json())
    return Refused(answer.status, answer.json())


def keys_refused(answer: Answer) -> frozenset[str]:
    """Return the keys that a 404 of the gateway names; none for any other answer."""
    named = answer.json().get("keys") if answer.status == HTTPStatus.NOT_FOUND else None
    return frozenset(map(str, named)) if isinstance(named, list) else frozenset()


def token_refusal(answer: Answer, where: str) -> Exception:
    """Return the exception of a token endpoint that gave no token (RFC 6749 section 5.2)."""
    if answer.status in _TRANSIENT:
        return away(answer, where)
    said = answer.json()
    code = said.get("error", f"status {answer.status}")
    detail = said.get("error_description") or said.get("detail") or ""
    mend = detail or "See that the agent is active and its secret or trust still holds."
    return BadIdentity(f"keyvault at {where} gives this program no token ({code}). {mend}")


def value(answer: Answer, name: str, where: str) -> Value:
    """Return the version that a read answered with. Raises Away: the answer is none of ours."""
    said = answer.json()
    fields = said.get("fields", {ONE: said["value"]} if "value" in said else None)
    if said.get("key") != name or not isinstance(fields, dict) or not fields:
        raise Away(where, "something else than keyvault answers there")
    return Value(
        key=name,
        version=int(said["version"]),
        etag=str(said.get("etag") or answer.headers.get("etag", "")),
        public={str(field): str(text) for field, text in said.get("public", {}).items()},
        secrets={str(field): Secret.of(str(text)) for field, text in fields.items()},
        expires_at=_moment(said.get("expires_at")),
        not_after=_moment(said.get("not_after")),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _retry_after_s(answer: Answer) -> float | None:
    """Return the wait in seconds that the server asked for; its form as a date is not used."""
    text = answer.headers.get("retry-after", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else None
