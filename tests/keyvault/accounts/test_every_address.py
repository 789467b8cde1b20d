"""R25 and R37: every address that the console answers, as somebody sees it who is not signed in."""

import re

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver, reverse

from keyvault.accounts import gates
from tests import cast as people

pytestmark = pytest.mark.django_db
OPEN = {gates.PUBLIC, gates.VISITOR}
VALUES = {
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uuidstr": "00000000-0000-4000-8000-000000000000",
    "int": "1",
    "slug": "name",
    "str": "name",
    "path": "name",
}


# Addresses by regular expression, with one that each answers.
EXAMPLES = {r"^(?P<address>keys(?:/.*)?(?:\.\.|//).*)$": "/keys//"}


def patterns(resolver=None, prefix=""):
    for entry in (resolver or get_resolver()).url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route, entry.callback
        else:
            yield from patterns(entry, route)


def address(route):
    if route in EXAMPLES:
        return EXAMPLES[route]
    return "/" + re.sub(r"<(?:(\w+):)?\w+>", lambda m: VALUES.get(m[1] or "str", "1"), route)


def test_r37_a_visitor_gets_the_ways_in_and_nothing_else(cast):
    opened = {
        route
        for route, view in patterns()
        if Client().get(address(route)).status_code not in {302, 401, 403, 404, 405}
    }
    named = {route for route, view in patterns() if gates.of(view) in OPEN}
    assert opened <= named
    assert named <= {
        "api/v1/openapi.json",
        ".well-known/keyvault",
        "auth/login/",
        "csp-report/",
        "healthz",
        "metrics",
        "readyz",
        "invite/<uuid:invitation_id>/",
        "invite/<uuid:invitation_id>/factor/",
    }


def test_r25_no_method_of_any_address_works_without_the_second_factor(cast):
    half = Client()
    half.post(reverse("login"), {"username": "frank", "password": people.PASSWORD})
    for route, view in patterns():
        gate = gates.of(view)
        assert gate is not None, f"{route} names no gate"
        # What takes a token looks at no session: tests/keyvault/api goes through those.
        if gate in OPEN | {gates.HALF, gates.SETUP, gates.MACHINE}:
            continue
        for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
            for body, kind in (
                ("", "application/x-www-form-urlencoded"),
                ("{}", "application/json"),
            ):
                answer = half.generic(method, address(route), body, content_type=kind)
                refused = {400, 401, 403, 404, 405} if gate == gates.MACHINE else {403}
                assert answer.status_code in refused, (method, route, kind)
