"""Every way in which the gateway says no, and how each is told (RFC 9457).

A key that does not exist, one that is not delivered by API, one that is
suspended and one that the asker may not use are one refusal: the same body but
for the name that the asker itself sent.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyvault.agents import next_actions
from keyvault.gateway import answers
from keyvault.gateway.answers import Answer, Headers
from keyvault.inventory import naming


class Problem(Exception):
    """The request is not served. `kind` names the problem, `more` are further members of it.

    `principal` is the id of the agent that was refused, once it is known.
    """

    principal = ""

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        *,
        headers: Headers | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.title, self.detail = status, kind, title, detail
        self.headers, self.more = headers or [], more or {}

    def answer(self, request_id: str) -> Answer:
        """Return the problem document."""
        content = {
            "type": f"urn:keyvault:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "request_id": request_id,
            **self.more,
        }
        return answers.of_problem(self.status, content, self.headers)


def _again(seconds: int) -> Headers:
    return [("retry-after", str(seconds))]


def bad_token(console: str) -> Problem:
    """Say that the bearer token opens nothing."""
    return Problem(
        401,
        "bad-token",
        "This token opens nothing",
        "Send a token in the header `Authorization: Bearer kvt_...`. Tokens live at most an hour.",
        headers=[("www-authenticate", 'Bearer realm="keyvault"')],
        more={
            "next_action": {
                "title": "Get a token.",
                "method": "POST",
                "href": f"{console}/api/v1/oauth/token",
            }
        },
    )


def person(console: str) -> Problem:
    """Say that the token is a person's."""
    return Problem(
        403,
        "people-do-not-read-here",
        "Only agents read values here",
        "A person sees a value through a reveal request, which others approve.",
        more={
            "next_action": {
                "title": "Ask to see the value on the key's page.",
                "method": "GET",
                "href": f"{console}/keys/",
            }
        },
    )


def no_key(names: list[str], console: str, *, agent: str) -> Problem:
    """Say that there is no such key for the asker, whatever the reason.

    One request asks for one key, so that of several the first is proposed.
    """
    action = next_actions.ask_for_grant(names[0], agent=agent)
    told = ", ".join(names)
    return Problem(
        404,
        "no-such-key",
        "There is no such key for you",
        f"{told}: no key of this name is delivered to you. If it exists, ask to be granted it.",
        more={
            "keys": names,
            "next_action": {**action, "href": f"{console}{action['href']}"},
        },
    )


def bad_name() -> Problem:
    """Say that what stands in the address can be no name of a key."""
    return Problem(400, "bad-name", "This is no name of a key", naming.NAME_RULE)


def bad_request(detail: str) -> Problem:
    """Say that the request cannot be understood; `detail` says the mend."""
    return Problem(400, "bad-request", "This request cannot be understood", detail)


def too_many() -> Problem:
    """Say that the rate of the agent or of the source is used up."""
    return Problem(
        429,
        "too-many-requests",
        "Too many requests",
        "Wait a second and go on more slowly.",
        headers=_again(1),
    )


def too_many_watches(status: int) -> Problem:
    """Say that the gateway (503) or the agent (429) has as many open watches as may be."""
    return Problem(
        status,
        "too-many-watches",
        "Too many watches are open",
        "Ask for the key from time to time instead, by its tag, or watch several keys in one.",
        headers=_again(30),
    )


def stale() -> Problem:
    """Say that what the gateway knows is older than it may act on."""
    return Problem(
        503,
        "not-current",
        "The gateway waits for its database",
        "It cannot confirm who may read what. It goes on by itself once the database answers.",
        headers=_again(1),
    )


def no_log() -> Problem:
    """Say that the read cannot be written down."""
    return Problem(
        503,
        "no-read-log",
        "Reads cannot be recorded",
        "No value is handed out without a record. It goes on by itself once records can be written.",
        headers=_again(2),
    )


def sealed() -> Problem:
    """Say that there is no key-encryption key."""
    return Problem(
        503,
        "sealed",
        "The gateway is sealed",
        "It holds no key that opens values. An administrator must mend that.",
        headers=_again(30),
    )


def broken() -> Problem:
    """Say that something failed which should not; the log of the gateway says what."""
    return Problem(500, "failed", "The gateway failed", "Tell an administrator the request id.")


def no_address() -> Problem:
    """Say that nothing lives at this address."""
    return Problem(
        404, "no-such-address", "Nothing is here", "The addresses are in docs/gateway.md."
    )


def wrong_method(allowed: str) -> Problem:
    """Say that the address exists, not for this method."""
    return Problem(
        405,
        "wrong-method",
        "This address takes another method",
        f"It takes {allowed}.",
        headers=[("allow", allowed)],
    )


def too_long(detail: str) -> Problem:
    """Say that the address is longer than any honest one."""
    return Problem(414, "too-long", "This address is too long", detail)


def too_large() -> Problem:
    """Say that the body is larger than any honest one."""
    return Problem(413, "too-large", "This body is too large", "A body has at most 64 KB.")


def too_slow() -> Problem:
    """Say that the body does not arrive."""
    return Problem(408, "too-slow", "The body did not arrive", "Send it within five seconds.")
