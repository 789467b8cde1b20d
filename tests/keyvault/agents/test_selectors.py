"""Lists of agents: filters, pages, how many keys each may use, and what is wrong."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from keyvault.agents import clients, memberships, selectors
from keyvault.agents.models import Agent, AgentState, Client
from keyvault.agents.selectors import Filters
from keyvault.inventory import keyset
from keyvault.inventory.keyset import BadFilter
from tests.keyvault.agents import builders
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db


def listed(person, cast, **query) -> list[str]:
    page = selectors.agents_for(person, Filters.parse(query), now=cast.now)
    return [row.agent.name for row in page.rows]


@pytest.mark.parametrize(
    "query",
    [
        {"ordering": "owner__password"},
        {"owner__password__startswith": "a"},
        {"state": "asleep"},
        {"owner": "bob"},
        {"problem": "all"},
        {"sort": "tokens__digest"},
        {"q": "a\x00b"},
    ],
)
def test_r33_only_listed_filters_are_accepted(query):
    with pytest.raises(BadFilter):
        Filters.parse(query)


def test_filters_narrow_the_list(cast):
    builders.agent(cast)
    builders.agent(cast, "web-scout", title="Scout", reads_outside_text=True, owner=cast.bob)

    assert listed(cast.dave, cast) == ["refund-bot", "web-scout"]
    assert listed(cast.dave, cast, input="outside") == ["web-scout"]
    assert listed(cast.alice, cast, owner="me") == ["refund-bot"]
    assert listed(cast.alice, cast, q="SCOUT") == ["web-scout"]
    assert listed(cast.alice, cast, team="payments", state="active") == ["refund-bot", "web-scout"]
    assert listed(cast.alice, cast, state="suspended") == []
    assert listed(cast.mallory, cast) == []


@pytest.mark.parametrize("sort", ["name", "used"])
def test_pages_walk_forth_and_back_over_every_agent_once(cast, monkeypatch, sort):
    monkeypatch.setattr(keyset, "PAGE_SIZE", 2)
    names = [f"agent-number-{number}" for number in range(5)]
    for number, name in enumerate(names):
        agent = builders.agent(cast, name)
        seen = cast.now + timedelta(days=number // 2) if number else None
        Agent.objects.filter(pk=agent.pk).update(last_seen_at=seen)
    filters = Filters.parse({"sort": sort})

    walked, after, page = [], "", None
    while page is None or after:
        page = selectors.agents_for(cast.alice, filters, now=cast.now, after=after)
        walked += [row.agent.name for row in page.rows]
        after = page.after
    back = selectors.agents_for(cast.alice, filters, now=cast.now, before=page.before)

    assert walked == names
    assert [row.agent.name for row in back.rows] == names[2:4]
    assert (page.count, page.is_exact) == (5, True)


def test_the_number_of_keys_counts_own_and_group_rights_once_each(cast):
    agent = builders.agent(cast)
    own, shared = keys.live(cast), keys.live(cast, name="mail-sender")
    builders.granted(cast, agent, own)
    builders.granted(cast, cast.payments.group, own)
    builders.granted(cast, cast.payments.group, shared)
    assert selectors.key_counts([agent], now=cast.now)[agent.pk] == 1

    with transaction.atomic():
        memberships.join(
            agent_id=agent.pk,
            group=cast.payments.group,
            request_id=uuid4(),
            actor=builders.TESTS,
            now=cast.now,
        )

    assert selectors.key_counts([agent], now=cast.now)[agent.pk] == 2
    held = selectors.grants_of(agent, now=cast.now)
    assert [grant.key.name for grant in held] == ["ledger-reader", "ledger-reader", "mail-sender"]
    later = cast.now + timedelta(days=31)
    assert selectors.key_counts([agent], now=later)[agent.pk] == 0


def test_an_agent_without_a_living_owner_is_a_problem(cast):
    agent = builders.agent(cast)
    assert listed(cast.dave, cast, problem="orphan") == []

    for person in (cast.alice, cast.carol):
        person.is_active = False
        person.save(update_fields=["is_active"])

    agent = Agent.objects.select_related("owner", "backup_owner").get()
    assert selectors.problems_of(agent, now=cast.now) == ("orphan",)
    assert listed(cast.dave, cast, problem="orphan") == ["refund-bot"]
    assert selectors.counts(cast.dave, now=cast.now)["problem"] == 1


def test_a_secret_that_ends_soon_is_a_problem(cast):
    agent = builders.agent(cast)
    with transaction.atomic():
        clients.add_secret(agent_id=agent.pk, actor=builders.TESTS, now=cast.now)
    assert listed(cast.dave, cast, problem="ending") == []

    Client.objects.update(expires_at=cast.now + timedelta(days=13))

    assert selectors.problems_of(agent, now=cast.now) == ("ending",)
    assert listed(cast.dave, cast, problem="ending") == ["refund-bot"]


@pytest.mark.parametrize("seen_days", [None, 90])
def test_an_agent_that_nobody_used_for_90_days_is_a_problem(cast, seen_days):
    agent = builders.agent(cast)
    seen = cast.now - timedelta(days=seen_days) if seen_days else None
    long_ago = cast.now - timedelta(days=200)
    Agent.objects.filter(pk=agent.pk).update(last_seen_at=seen, created_at=long_ago)
    agent.refresh_from_db()

    assert selectors.problems_of(agent, now=cast.now) == ("idle",)
    assert listed(cast.dave, cast, problem="any") == ["refund-bot"]
    assert listed(cast.dave, cast, problem="idle") == ["refund-bot"]

    Agent.objects.filter(pk=agent.pk).update(state=AgentState.RETIRED)
    assert listed(cast.dave, cast, problem="any") == []
