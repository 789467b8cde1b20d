"""Answer what goes wrong as a problem document (RFC 9457), by one table of errors.

The table is the machine's twin of the middleware's: what it does not list is a
fault of ours, is raised further and becomes a 500 in the log. What does not
exist and what the caller may not see get the same words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from django.http import HttpResponse

from keyvault.audit import context

JSON = Any
MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:keyvault:problem:"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its status, its title, and what the caller can do about it."""

    status: int
    title: str
    mend: str


KINDS: Mapping[str, Kind] = {
    "bad-request": Kind(400, "The request cannot be read", "Send what the document describes."),
    "bad-body": Kind(400, "The body is not one JSON object", "Send one plain JSON object."),
    "bad-name": Kind(400, "No key or agent can have this name", "Correct the name."),
    "bad-query": Kind(400, "The query is not one that this list knows", "Use the listed filters."),
    "invalid-token": Kind(401, "The token opens nothing", "Ask for a new token."),
    "forbidden": Kind(403, "This is not yours to do", "Ask whoever has the right."),
    "denied-by-policy": Kind(403, "A policy does not allow this", "Nobody can approve it."),
    "people-only": Kind(403, "Only a person may do this", "Use a person's token or the console."),
    "not-found": Kind(404, "There is nothing here for you", "Check the name, or ask for access."),
    "method-not-allowed": Kind(405, "This address does not take the method", "See `Allow`."),
    "too-slow": Kind(408, "The body did not arrive in time", "Send it again, all at once."),
    "conflict": Kind(409, "What it is about has changed or is busy", "Read it again first."),
    "too-different": Kind(
        409, "Policies cannot judge these keys at once", "Ask for fewer of them, or for each alone."
    ),
    "in-flight": Kind(
        409, "The same request is under way", "Wait, then send it again with the same key."
    ),
    "too-many-open": Kind(
        409, "The agent has too many open requests", "Withdraw one, or wait for a decision."
    ),
    "changed": Kind(412, "It has changed since it was read", "Read it again, then decide anew."),
    "too-large": Kind(413, "The body is too large", "Send less."),
    "unsupported-media-type": Kind(
        415, "The body is not JSON", "Set Content-Type: application/json."
    ),
    "invalid": Kind(422, "What is asked cannot be", "Mend the fields in `errors`."),
    "key-reused": Kind(
        422, "The Idempotency-Key belongs to another request", "Use a new key for a new request."
    ),
    "too-many-requests": Kind(429, "Too many requests", "Wait for `Retry-After` seconds."),
    "broken": Kind(500, "Something broke on our side", "Tell an administrator the request id."),
    "unavailable": Kind(503, "Not now", "Try again after `Retry-After` seconds."),
}
_KEPT = (
    "Allow",
    "Retry-After",
    "Cache-Control",
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy",
    "Permissions-Policy",
    "Referrer-Policy",
    "Strict-Transport-Security",
    "Vary",
    "X-Content-Type-Options",
    "X-Frame-Options",
)
_BY_STATUS = {
    400: "bad-request",
    401: "invalid-token",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "too-slow",
    409: "conflict",
    412: "changed",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid",
    429: "too-many-requests",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One field that is wrong: a JSON pointer into the body (RFC 6901), or a parameter."""

    detail: str
    pointer: str = ""
    parameter: str = ""

    def to_json(self) -> dict[str, str]:
        """Return the fault as the document shows it."""
        place = {"pointer": self.pointer} if self.pointer or not self.parameter else {}
        return {"detail": self.detail, **place} | (
            {"parameter": self.parameter} if self.parameter else {}
        )


class Problem(Exception):
    """What the API itself refuses. `kind` is a name of KINDS."""

    def __init__(
        self,
        kind: str,
        detail: str = "",
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        next_action: Mapping[str, JSON] | None = None,
    ) -> None:
        super().__init__(detail or KINDS[kind].title)
        self.kind, self.detail = kind, detail or KINDS[kind].mend
        self.errors, self.headers = tuple(errors), dict(headers or {})
        self.next_action = next_action


@dataclass(frozen=True, slots=True)
class Document:
    """One problem document, ready to be sent."""

    kind: str
    detail: str = ""
    errors: Sequence[Fault] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    next_action: Mapping[str, JSON] | None = None

    def response(self) -> HttpResponse:
        """Return the answer; it carries the request id that the logs carry too."""
        kind = KINDS[self.kind]
        body: dict[str, JSON] = {
            "type": PREFIX + self.kind,
            "title": kind.title,
            "status": kind.status,
            "detail": self.detail or kind.mend,
            "request_id": context.current().correlation_id,
        }
        if self.errors:
            body["errors"] = [fault.to_json() for fault in self.errors]
        if self.next_action:
            body["next_action"] = dict(self.next_action)
        return HttpResponse(
            json.dumps(body), status=kind.status, content_type=MEDIA_TYPE, headers=self.headers
        )


def of(error: Problem) -> Document:
    """Return the document of a refusal by the API itself."""
    return Document(error.kind, error.detail, error.errors, error.headers, error.next_action)


def in_place_of(response: HttpResponse) -> HttpResponse:
    """Return a problem document for an answer that something else has made in another form.

    Headers that tell the caller how to go on are kept, and those of the policy
    that every answer carries; nothing of the body is.
    """
    status = response.status_code
    usual = "broken" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "bad-request"
    kept = {name: response[name] for name in _KEPT if name in response}
    return Document(_BY_STATUS.get(status, usual), headers=kept).response()
