"""Acts of the demo's people over plain HTTP: ask for a key, have it approved, see its value."""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from keyvault.launcher import demo
from tests.flows.visitors import Visitor, await_state

if TYPE_CHECKING:
    import httpx

DATABASE, BY_HAND = "northwind-db", "by-hand"


def ask_for_key(
    alice: Visitor, name: str, connection: str, *, delivery_mode: str = "reveal"
) -> str:
    """Ask for a key in the development environment and return the request's path.

    The demo's Connections serve production as well, so that bob and carol must agree.
    """
    more = {}
    if connection == DATABASE:
        more = {"option_login_prefix": name.replace("-", "_"), "option_owner_role": demo.OWNER}
    answer = alice.send(
        f"/requests/new/?connection={connection}",
        "draft",
        name=name,
        environment="dev",
        allowed_hosts="db.northwind.example",
        delivery_mode=delivery_mode,
        purpose="An agent reads orders to answer customers.",
        send="1",
        **more,
    )
    return _request(answer.url.path, answer.text)


def type_adoption(alice: Visitor, name: str, value: str) -> httpx.Response:
    """Fill in the form that adopts an existing value as a key, and return the answer."""
    return alice.send(
        f"/requests/adopt/?connection={BY_HAND}",
        "value",
        name=name,
        value=value,
        environment="dev",
        purpose="It lived in a file until now.",
    )


def ask_to_adopt(alice: Visitor, name: str, value: str) -> str:
    """Ask to adopt an existing value as a key and return the request's path."""
    answer = type_adoption(alice, name, value)
    return _request(answer.url.path, answer.text)


def ask_to_reveal(alice: Visitor, name: str) -> str:
    """Ask to see the value once and return the request's path."""
    answer = alice.send(f"/keys/{name}/reveal/", "reason", reason="The first start is by hand.")
    return _request(answer.url.path, answer.text)


def ask_to_revoke(alice: Visitor, name: str) -> str:
    """Ask to end a key and return the request's path."""
    answer = alice.send(f"/keys/{name}/revoke/", "reason", reason="The agent is retired.")
    return _request(answer.url.path, answer.text)


def done(request: str, *approvers: Visitor) -> str:
    """Have a request approved by all who must and wait until it is done."""
    for approver in approvers:
        approver.decide(request)
    await_state(approvers[0].stack, request, "done")
    return request


def reveal(alice: Visitor, name: str) -> str:
    """See the only reveal of the first version and return the value on the page."""
    answer = alice.confirmed(alice.post(f"/keys/{name}/versions/1/reveal/", {}))
    assert answer.status_code == 200, answer.text
    shown = re.search(r'<output class="value".*?</output>', answer.text)
    assert shown, answer.text
    return unescape(re.sub("<[^>]*>", "", shown.group(0)))


def _request(path: str, page: str) -> str:
    assert path.startswith("/approvals/"), f"{path}: {re.findall('id=.(id_[a-z_]+_error)', page)}"
    return path
