"""Made-up calls after the document, as every role: never a 5xx, never an answer outside of it."""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from keyvault.api import limits
from tests.keyvault.agents import builders

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
)
# As a process serves it, without what ties a real one to its parent.
application = get_wsgi_application()
ROLES = ("alice", "dave", "mallory", "agent", "nobody")


@pytest.fixture(autouse=True)
def _one_connection():
    """Keep the test's connection: a server closes it after each call, a transaction needs it."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def _campaign(role: str, cast, as_, *, examples: int) -> Counter[int]:
    """Call every operation with made-up arguments; return how often each status was answered."""
    holder = builders.agent(cast) if role == "agent" else getattr(cast, role, None)
    headers = {"Authorization": f"Bearer {as_(holder).text}"} if holder else {}
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application)
    answered: Counter[int] = Counter()

    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def one(case):
            limits.buckets.clear()
            response = case.call(headers=headers)
            answered[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        one()
    return answered


@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
def test_r43_no_made_up_call_breaks_the_api(house, as_, role):
    answered = _campaign(role, house.cast, as_, examples=10)

    assert answered.total() > 60
    _no_stranger_is_let_in(role, answered)


@pytest.mark.campaign
@pytest.mark.django_db
@pytest.mark.parametrize("role", ROLES)
def test_r43_no_call_of_a_campaign_breaks_the_api(house, as_, role):
    answered = _campaign(role, house.cast, as_, examples=int(os.environ.get("EXAMPLES", "500")))

    sys.stdout.write(f"\n{role}: {answered.total()} calls, by status: {dict(answered)}\n")
    assert answered.total() > 3000
    _no_stranger_is_let_in(role, answered)


def _no_stranger_is_let_in(role: str, answered: Counter[int]) -> None:
    """Fail where somebody without a token succeeded. What others may do the access matrix says."""
    if role == "nobody":
        assert [status for status in answered if status < 400] == []
