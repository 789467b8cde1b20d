"""What a program can do after it was refused a key: the act to send next (pure).

The API and the gateway put it into their refusals. It is made of the name
that was asked for and of nothing else, so that a key that is hidden and one
that does not exist get the same words.
"""

from __future__ import annotations

from typing import Any

JSON = Any
REQUESTS = "/api/v1/requests"
GRANT = "grant.give"
DAYS = 30
# What a person can do, who may see more than one key of a kind.
LOOK = {"title": "List the keys that you may see", "method": "GET", "href": "/api/v1/keys"}


def ask_for_grant(name: str, *, agent: str) -> dict[str, JSON]:
    """Return the Request that would let an agent use a key. The caller fills in the reason."""
    return {
        "title": f"Ask that {agent} may use {name}. Say why in `reason`.",
        "method": "POST",
        "href": REQUESTS,
        "body": {"kind": GRANT, "key": name, "agent": agent, "days": DAYS, "reason": ""},
    }
