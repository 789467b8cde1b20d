"""R29 and R30: how long the token endpoint takes to refuse tells nothing about the agent."""

from __future__ import annotations

import logging
import math
import secrets
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keyvault.accounts import lockout
from keyvault.agents import clients, services
from keyvault.agents.models import AgentState, Client
from keyvault.api import limits
from keyvault.crypto import tokens
from tests.keyvault.agents import builders, proving

log = logging.getLogger(__name__)
SAMPLES = 2000
STRANGE = "kvs_" + "0" * 12 + "_" + "x" * 49


@pytest.fixture
def refusals(cast, monkeypatch):
    """Return one way to be refused for each kind of agent and proof, by name."""
    for scope in ("program", "programs"):
        monkeypatch.setitem(lockout.LIMITS, scope, 10**9)
    bots = {
        name: builders.agent(cast, f"{name}-bot")
        for name in ("wrong", "suspended", "ended", "expired", "signing", "still")
    }
    text = {
        name: proving.secret(bots[name], now=cast.now) for name in ("wrong", "suspended", "ended")
    }
    text["expired"] = proving.secret(bots["expired"], now=cast.now - timedelta(days=91))
    signers = {name: proving.registered(bots[name], now=cast.now) for name in ("signing", "still")}
    with transaction.atomic():
        for name in ("suspended", "still"):
            _suspend(bots[name], cast.now)
        client = Client.objects.get(agent=bots["ended"])
        clients.end(client_id=client.pk, cause="tests", actor=builders.TESTS, now=cast.now)
    unknown = tokens.issue("kvs").text.reveal().decode()

    def assertion(name, signer):
        claims = proving.assertion_claims(bots["signing"], now=timezone.now(), iss=name, sub=name)
        return proving.by_assertion(signer.sign(claims))

    stranger = proving.Signer()
    return {
        "no such agent": lambda: proving.by_secret("nobody-bot", unknown),
        "no such secret": lambda: proving.by_secret("wrong-bot", unknown),
        "right id, wrong secret": lambda: proving.by_secret("wrong-bot", _spoilt(text["wrong"])),
        "suspended": lambda: proving.by_secret("suspended-bot", text["suspended"]),
        "ended": lambda: proving.by_secret("ended-bot", text["ended"]),
        "expired": lambda: proving.by_secret("expired-bot", text["expired"]),
        "no secret": lambda: proving.by_secret("wrong-bot", STRANGE),
        "signed, no such agent": lambda: assertion("nobody-bot", stranger),
        "signed by another": lambda: assertion("signing-bot", stranger),
        "signed, suspended": lambda: assertion("still-bot", signers["still"]),
    }


def _suspend(agent, now):
    services.set_state(
        agent_id=agent.pk, state=AgentState.SUSPENDED, cause="", actor=builders.TESTS, now=now
    )


def _spoilt(text):
    """Return a text with the same public id, another secret and a checksum that is right."""
    body = text[: -len("xxxxxx") - 1] + ("A" if text[-7] != "A" else "B")
    return body + tokens._checksum(body)


def interval(one, other):
    """Return the 95 % interval of the median of paired differences, in seconds.

    Two samples of one round were taken within a moment, so that the load of
    the machine falls out of their difference. Order statistics of the sign test.
    """
    differences = sorted(a - b for a, b in zip(one, other, strict=True))
    middle, reach = len(differences) / 2, 0.98 * math.sqrt(len(differences))
    return differences[int(middle - reach)], differences[int(middle + reach)]


def _groups(refusals):
    """Return the kinds that must not be told apart: secrets among themselves, then signatures."""
    signed = {name: call for name, call in refusals.items() if name.startswith("signed")}
    return [{name: refusals[name] for name in refusals if name not in signed}, signed]


def _samples(kinds, count):
    """Return `count` times in seconds for each kind, in turns that a coin orders."""
    taken = {name: [] for name in kinds}
    for _ in range(count):
        limits.buckets.clear()
        for name in sorted(kinds, key=lambda _: secrets.randbits(32)):
            start = time.perf_counter()
            answer = kinds[name]()
            taken[name].append(time.perf_counter() - start)
            assert answer.status_code == 401, name
    return taken


@pytest.mark.django_db
def test_r29_every_refusal_costs_the_same_statements(refusals):
    for kinds in _groups(refusals):
        shapes = {}
        for name, refuse in kinds.items():
            refuse()
            with CaptureQueriesContext(connection) as queries:
                answer = refuse()
            shapes[name] = [query["sql"].split(" ")[0] for query in queries.captured_queries]
            assert answer.status_code == 401, name
        assert len({tuple(shape) for shape in shapes.values()}) == 1, shapes


@pytest.mark.django_db
def test_r29_a_small_sample_shows_no_difference(refusals):
    for kinds in _groups(refusals):
        taken = _samples(kinds, 10)
        first = next(iter(kinds))
        for name in list(kinds)[1:]:
            low, high = interval(taken[first], taken[name])
            assert low < 0.03, (name, low, high)
            assert high > -0.03, (name, low, high)


@pytest.mark.campaign
@pytest.mark.parametrize("group", [0, 1], ids=["secrets", "signatures"])
@pytest.mark.django_db(transaction=True)
def test_r29_two_thousand_refusals_of_each_kind_differ_by_less_than_2_ms(refusals, group):
    kinds = _groups(refusals)[group]
    taken = _samples(kinds, SAMPLES)
    first = next(iter(kinds))
    for name in list(kinds)[1:]:
        low, high = interval(taken[first], taken[name])
        log.info("%s: %+.3f to %+.3f ms of %s", name, low * 1000, high * 1000, first)
        assert low > -0.002, (name, low, high)
        assert high < 0.002, (name, low, high)
