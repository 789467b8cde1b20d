"""Whatever is thrown at any address, nothing of it is in a log and nothing breaks (R9)."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from tests import cleartext
from tests.flows.canaries import files, leaking, plain
from tests.flows.visitors import visitor
from tests.servers import Stack

pytestmark = pytest.mark.slow

VALUES = {"uuid": str(uuid.uuid4()), "uuidstr": str(uuid.uuid4()), "int": "1"}
NAME = "canary-orders"


def addresses() -> Iterator[str]:
    """Return every address of the console once, with something in place of its parts."""
    for route in flat(get_resolver().url_patterns):
        if "^" not in route:
            yield "/" + re.sub(r"<(\w+):\w+>", lambda part: VALUES.get(part[1], NAME), route)
    yield "/keys/..%2f/"
    yield "/nothing/here/"


def flat(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Return the whole route of every view."""
    for pattern in patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from flat(pattern.url_patterns, route)
        else:
            yield route


def provoke(http: httpx.Client, path: str, canary: str) -> Iterator[httpx.Response]:
    """Send one address what it does not expect, with a canary in each part of the request."""
    headers = {
        "Authorization": f"Bearer {canary}",
        "X-Api-Key": canary,
        "User-Agent": f"agent {canary}",
        "Referer": f"http://localhost/?token={canary}",
        "X-Forwarded-For": canary,
        "Content-Type": "application/json",
        "Cookie": "; ".join(
            [f"token={canary}", *(f"{c.name}={c.value}" for c in http.cookies.jar)]
        ),
    }
    query = {"password": canary, "q": f"request:{canary}", "next": f"//{canary}.example"}
    yield ask(http, "GET", path, params=query, headers=headers)
    yield ask(
        http, "POST", path, content=f'{{"password": "{canary}"', params=query, headers=headers
    )
    token = next((c.value for c in http.cookies.jar if "csrf" in c.name), "")
    form = {"csrfmiddlewaretoken": token or canary, "otp_code": canary, "verdict": canary}
    more = dict.fromkeys(("password", "username", "code", "reason", "comment", "q"), canary)
    yield ask(http, "POST", path, data=form | more | {"value_value": canary, "proof_id": canary})
    broken = f'--x\r\nContent-Disposition: form-data; name="a"; filename="{canary}"\r\n\r\n{canary}'
    as_parts = {**headers, "Content-Type": "multipart/form-data; boundary=x", "X-Csrftoken": token}
    yield ask(http, "POST", path, content=broken, headers=as_parts)
    yield ask(http, "PUT", path, content=canary, headers=headers)


def ask(http: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """Send one request, again when the server had closed the connection after the last one."""
    try:
        return http.request(method, path, **more)
    except (httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadError):
        return http.request(method, path, **more)


def test_r9_no_provoked_error_writes_a_canary_into_a_log(stack: Stack):
    canary, met, broken = plain(), set(), []
    with ExitStack() as until:
        strangers = [until.enter_context(cleartext.Client(base_url=stack.url, timeout=30))]
        strangers.append(until.enter_context(visitor(stack, "grace")).http)
        for http in strangers:
            http.follow_redirects = False
            for path in addresses():
                if "logout" not in path and "sign-out" not in path:
                    for answer in provoke(http, path, canary):
                        met.add(answer.status_code)
                        if answer.is_server_error:
                            broken.append((answer.request.method, path, answer.status_code))
        met |= unreadable(stack, canary)
    assert met >= {400, 403, 404, 405, 422}
    assert broken == []
    assert leaking(files(stack.data / "log"), [canary]) == {}


def unreadable(stack: Stack, canary: str) -> set[int]:
    """Send what is hardly HTTP: a strange host, a huge header, a huge body, a forged cookie."""
    hostile = (
        {"headers": {"Host": f"{canary}.example"}},
        {"headers": {"Host": f"user:{canary}@localhost"}},
        {"headers": {"X-Long": canary * 3000}},
        {"headers": {"Cookie": f"keyvault={canary}; keyvault-csrf={canary}"}},
        {"data": {f"{canary}{number}": canary for number in range(1200)}},
        {"content": canary.encode() * 200_000},
        {"headers": {"Content-Length": "nonsense", "X-A": canary}, "content": b"x"},
        {"headers": {"Content-Type": f"text/{canary}; charset={canary}"}, "content": b"\xff"},
    )
    met = set()
    with cleartext.Client(base_url=stack.url, timeout=30) as http:
        for more in hostile:
            try:
                answer = http.post("/auth/login/", params={"next": canary}, **more)
            except httpx.HTTPError:
                continue  # It hung up on us, which is an answer too.
            met.add(answer.status_code)
        report = {
            "csp-report": {"violated-directive": "img-src", "blocked-uri": f"http://a/{canary}"}
        }
        met.add(http.post("/csp-report/", content=json.dumps(report)).status_code)
        met.add(http.post("/csp-report/", content=canary).status_code)
    return met
