"""A change of a trust is judged by the keys of the agents that come in by it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import transaction

from approvals import selectors, services
from approvals.models import Request
from approvals.queue.claims import Claim
from keyvault.actions.change_trust import BEGIN, CHANGE, END
from keyvault.agents import bindings
from keyvault.agents.models import Trust
from keyvault.connections.models import Connection
from keyvault.inventory.models import Key
from tests import cast as people
from tests import races
from tests.keyvault.actions.test_change_trust import CLAIMS, TERMS, ask, bind, state, trusted
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db

OWN_KEYS = replace(TERMS, jwks_url="https://keys.example.com/jwks")
USUAL, STRICT = "Trust in outside issuers", "Trust that reaches protected environments"


def production(house) -> Key:
    """Return a key of production that agents may fetch."""
    request = house.ask(environment="prod", delivery_mode="pull")
    agree(house, request)
    return Key.objects.get(request_id=request.pk)


def agree(house, request) -> None:
    for person in (house.cast.bob, house.cast.carol):
        house.say(person, request)
    house.work()


def reader(house, **changes):
    """Return an agent that reads a key of production and comes in by the trust."""
    agent = builders.agent(house.cast, **changes)
    builders.granted(house.cast, agent, production(house))
    bound(house, agent)
    return agent


def bound(house, agent) -> None:
    with transaction.atomic():
        bindings.create(
            trust_id=Trust.objects.get().pk,
            agent_id=agent.pk,
            claims=CLAIMS,
            actor=builders.TESTS,
            now=house.now,
        )


def policy(request) -> str:
    return Request.objects.get(pk=request.pk).policy_version.policy.name


def test_r34_another_administrator_alone_cannot_hand_protected_keys_to_an_issuer(house):
    trusted(house)
    reader(house)
    request = ask(house, CHANGE, terms=OWN_KEYS)

    house.say(house.cast.grace, request)
    house.work()
    assert (state(request), policy(request)) == ("pending", STRICT)
    assert Trust.objects.get().jwks_url == ""

    house.say(house.cast.bob, request)
    house.work()
    assert state(request) == "done"
    assert Trust.objects.get().jwks_url == OWN_KEYS.jwks_url


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, allowed_hosts=("10.0.0.7:443",)),
        replace(TERMS, audience="https://keys.example.com"),
    ],
)
def test_r34_every_term_of_a_trust_is_judged_alike(house, terms):
    trusted(house)
    reader(house)

    assert policy(ask(house, CHANGE, terms=terms)) == STRICT


def test_r34_keys_that_come_by_a_team_count(house):
    trusted(house)
    agent = builders.agent(house.cast)
    builders.granted(house.cast, house.cast.payments.group, production(house))
    agent.memberships.create(group=house.cast.payments.group, joined_at=house.now)
    bound(house, agent)

    assert policy(ask(house, CHANGE, terms=OWN_KEYS)) == STRICT


def test_r34_in_solo_mode_nobody_decides_alone_over_protected_keys(house):
    from keyvault.accounts.models import Installation

    trusted(house)
    reader(house)
    Installation.objects.update(left_solo_at=None)
    people.leave(house.cast.grace, "administrators", now=house.now)
    request = ask(house, CHANGE, terms=OWN_KEYS)

    with pytest.raises(services.NotEligible):
        house.say(house.cast.frank, request)


def test_the_plan_says_which_environments_are_reached_and_the_risk_says_it_too(house):
    trusted(house)
    reader(house)
    request = Request.objects.get(pk=ask(house, CHANGE, terms=OWN_KEYS).pk)

    row = next(row for row in request.plan["changes"] if row["field"].startswith("Environments"))
    assert (row["now"], row["warning"]) == (["prod"], "Protected")
    assert {point["title"]: point["points"] for point in request.risk}[
        "Protected environment"
    ] == 25
    assert "ledger-reader" not in str(request.plan) + str(request.risk)


def test_owners_of_the_agents_and_of_their_keys_step_back(house):
    cast = house.cast
    trusted(house)
    reader(house, owner=cast.bob)
    for person in (cast.erin, cast.alice):
        people.join(person, "security", now=house.now - timedelta(days=1))
    request = ask(house, CHANGE, terms=OWN_KEYS)

    for concerned in (cast.bob, cast.alice):
        with pytest.raises(services.NotEligible, match="about you"):
            house.say(concerned, request)
    house.say(cast.erin, request)
    house.say(cast.grace, request)
    house.work()
    assert state(request) == "done"


def test_begin_and_end_are_judged_as_before(house):
    begun = ask(house, BEGIN)
    assert policy(begun) == USUAL
    house.say(house.cast.grace, begun)
    house.work()
    reader(house)

    request = ask(house, END)
    assert policy(request) == USUAL
    house.say(house.cast.grace, request)
    house.work()
    assert state(request) == "done"


def test_agents_that_read_only_elsewhere_take_another_administrator(house):
    trusted(house)
    agent = builders.agent(house.cast)
    builders.granted(house.cast, agent, house.pull())
    bound(house, agent)

    assert policy(ask(house, CHANGE, terms=OWN_KEYS)) == USUAL


@pytest.mark.parametrize("what", ["agent", "key"])
def test_what_comes_between_asking_and_running_is_judged_again(house, what):
    trusted(house)
    agent, key = builders.agent(house.cast), production(house)
    if what == "key":
        bound(house, agent)
    request = ask(house, CHANGE, terms=OWN_KEYS)
    assert policy(request) == USUAL
    house.say(house.cast.grace, request)

    builders.granted(house.cast, agent, key)
    if what == "agent":
        bound(house, agent)
    house.work()

    assert state(request) == "invalidated"
    assert Trust.objects.get().jwks_url == ""


def test_what_stricter_rules_guard_by_now_is_not_done_though_its_plan_is_the_same(house):
    agent = builders.agent(house.cast)
    trusted(house)
    builders.granted(house.cast, agent, house.pull())
    request = bind(house)
    house.say(house.cast.bob, request)

    Connection.objects.filter(slug="orders").update(environment=house.cast.prod)
    house.work()

    row = Request.objects.get(pk=request.pk)
    assert (row.state, row.end_code, row.drift) == ("invalidated", "judged_anew", None)
    assert not agent.bindings.exists()


def test_a_job_is_bound_to_no_trust_that_changed_after_its_run_began(house, monkeypatch):
    builders.agent(house.cast)
    trusted(house)
    request = bind(house)
    house.say(house.cast.bob, request)

    def change(_run, point):
        if point == "execute:claimed":
            Trust.objects.update(revision=2, jwks_url=OWN_KEYS.jwks_url)

    monkeypatch.setattr(Claim, "reached", change)
    house.work()

    assert (state(request), Request.objects.get(pk=request.pk).end_code) == ("failed", "changed")
    assert not Trust.objects.get().bindings.exists()


@pytest.mark.django_db(transaction=True)
def test_a_binding_that_is_being_made_while_a_change_runs_stops_it(house):
    trusted(house)
    agent = builders.agent(house.cast)
    builders.granted(house.cast, agent, production(house))
    request = ask(house, CHANGE, terms=OWN_KEYS)
    house.say(house.cast.grace, request)

    with transaction.atomic():
        bound(house, agent)
        racer = races.Racer(house.work)
        races.await_somebody_waiting()
        assert selectors.access_request(house.cast.frank, request.pk).state == "executing"
    racer.finish()

    assert (state(request), Request.objects.get(pk=request.pk).end_code) == ("failed", "changed")
    assert Trust.objects.get().jwks_url == ""
