"""Trust in issuers and the jobs that are agents: who asks, what is read, what ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from approvals import selectors, services
from approvals.models import Request
from approvals.ports import NotVisible
from keyvault.accounts.gates import MissingRight
from keyvault.actions import about_keys, bind_agent, change_trust
from keyvault.actions.change_trust import BEGIN, CHANGE, END
from keyvault.agents import bindings, equipment, trusts
from keyvault.agents.models import Binding, Trust
from keyvault.agents.terms import Terms
from tests import cast as people
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db

TERMS = Terms("github", "https://token.actions.githubusercontent.com", "https://kv.example.com")
CLAIMS = {
    "repository_id": "12345",
    "repository_owner_id": "678",
    "environment": "production",
    "job_workflow_ref": "northwind/shop/.github/workflows/deploy.yml@refs/heads/main",
}


def ask(house, verb, person=None, **more):
    given = {"title": "GitHub", "terms": TERMS} if verb != END else {}
    return change_trust.ask(
        person=person or house.cast.frank,
        verb=verb,
        slug="github",
        reason="Jobs need keys.",
        now=house.now,
        **{**given, **more},
    )


def trusted(house) -> Trust:
    request = ask(house, BEGIN)
    house.say(house.cast.grace, request)
    house.work()
    return Trust.objects.get(request_id=request.pk)


def bind(house, person=None, **more):
    return bind_agent.ask(
        person=person or house.cast.alice,
        agent="refund-bot",
        trust="github",
        claims=more.get("claims", CLAIMS),
        reason="The deploy job refunds.",
        now=house.now,
    )


def state(request) -> str:
    return Request.objects.get(pk=request.pk).state


def test_another_administrator_agrees_before_an_issuer_is_trusted(house):
    request = ask(house, BEGIN)
    assert not Trust.objects.exists()
    with pytest.raises(services.NotEligible):
        house.say(house.cast.frank, request)

    house.say(house.cast.grace, request)
    house.work()

    row = Trust.objects.get()
    assert (row.slug, row.issuer, row.revision) == ("github", TERMS.issuer, 1)
    assert state(request) == "done"


def test_nobody_else_asks_about_trust(house):
    for person in (house.cast.alice, house.cast.bob, house.cast.dave, house.cast.mallory):
        with pytest.raises(MissingRight):
            ask(house, BEGIN, person)


def test_bad_terms_and_taken_names_are_refused_before_anybody_is_asked(house):
    with pytest.raises(trusts.BadTerms, match="https"):
        ask(house, BEGIN, terms=replace(TERMS, issuer="http://issuer.example.com", kind="oidc"))
    first = ask(house, BEGIN)
    with pytest.raises(about_keys.AlreadyAsked) as asked:
        ask(house, BEGIN)
    assert asked.value.request_id == first.pk

    house.say(house.cast.grace, first)
    house.work()
    with pytest.raises(trusts.Taken):
        ask(house, BEGIN)


def test_a_change_shows_what_differs_and_raises_the_revision(house):
    trusted(house)
    request = ask(house, CHANGE, terms=replace(TERMS, audience="https://keys.example.com"))
    changes = {row["field"]: row for row in Request.objects.get(pk=request.pk).plan["changes"]}
    assert changes["Audience"]["now"] == TERMS.audience
    assert changes["Audience"]["then"] == "https://keys.example.com"

    house.say(house.cast.grace, request)
    house.work()

    row = Trust.objects.get()
    assert (row.audience, row.revision) == ("https://keys.example.com", 2)
    with pytest.raises(change_trust.NothingToChange):
        ask(house, CHANGE, terms=trusts.terms(row))


def test_ending_a_trust_ends_its_bindings(house):
    builders.agent(house.cast)
    trusted(house)
    house.say(house.cast.bob, bind(house))
    house.work()
    request = ask(house, END)
    plan = Request.objects.get(pk=request.pk).plan
    assert plan["breaks"] == ["Tokens that came by it end at once: refund-bot."]

    house.say(house.cast.grace, request)
    house.work()

    assert Trust.objects.get().ended_at is not None
    assert Binding.objects.get().ended_at is not None
    with pytest.raises(NotVisible):
        ask(house, END)


def test_an_approved_job_is_the_agent_until_somebody_ends_it(house):
    cast, now = house.cast, house.now
    agent = builders.agent(cast)
    trusted(house)
    request = bind(house)
    assert not Binding.objects.exists()
    house.say(cast.bob, request)
    house.work()

    row = Binding.objects.get()
    assert (row.agent, row.claims, row.request_id) == (agent, CLAIMS, request.pk)

    def end(person):
        bound = equipment.digest(equipment.UNBIND, agent, binding=str(row.pk))
        proof = people.proof_for(person, digest=bound, now=now)
        equipment.end_binding(
            person=person, name=agent.name, binding_id=row.pk, proof_id=proof, now=now
        )

    with pytest.raises(NotVisible):
        end(cast.dave)
    end(cast.erin)
    row.refresh_from_db()
    assert row.ended_at == now


def test_r34_only_the_agent_s_owners_ask_to_bind_a_job(house):
    builders.agent(house.cast)
    trusted(house)

    for person in (house.cast.bob, house.cast.erin, house.cast.frank, house.cast.mallory):
        with pytest.raises(NotVisible):
            bind(house, person)


def test_r34_the_keys_that_come_with_it_say_who_approves(house):
    agent = builders.agent(house.cast)
    trusted(house)
    made = house.ask(environment="prod", delivery_mode="pull")
    for person in (house.cast.bob, house.cast.carol):
        house.say(person, made)
    house.work()
    action = bind_agent.BindAgent(agent_id=agent.pk, trust="github", claims=CLAIMS)
    before = selectors.preview(action, house.cast.alice, now=house.now).deciders.policy

    asked = house.let_use()
    for person in (house.cast.bob, house.cast.carol):
        house.say(person, asked)
    house.work()

    after = selectors.preview(action, house.cast.alice, now=house.now).deciders.policy
    assert (before, after) == ("Agents elsewhere", "Agents in protected environments")


@pytest.mark.parametrize(
    "claims",
    [
        {},
        CLAIMS | {"repository_id": "*"},
        {name: value for name, value in CLAIMS.items() if name != "environment"},
        CLAIMS | {"event_name": "pull_request"},
    ],
)
def test_claims_that_name_no_one_workload_are_refused_before_anybody_is_asked(house, claims):
    builders.agent(house.cast)
    trusted(house)

    with pytest.raises(bindings.BadClaims):
        bind(house, claims=claims)
    assert not Request.objects.filter(kind="trust.bind").exists()


def test_a_trust_that_changed_meanwhile_is_judged_again(house):
    builders.agent(house.cast)
    trusted(house)
    request = bind(house)
    house.say(house.cast.bob, request)
    changed = ask(house, CHANGE, terms=replace(TERMS, audience="https://keys.example.com"))
    house.say(house.cast.grace, changed)

    Trust.objects.update(revision=2)
    house.work()

    assert state(request) == "invalidated"
    assert not Binding.objects.exists()
