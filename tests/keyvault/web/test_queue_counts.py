"""The approver's pages and the held jobs cost as many queries for many rows as for two."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from approvals import selectors, services
from approvals.models import Job, Request
from approvals.ports import Actor
from keyvault.accounts import services as accounts
from keyvault.actions import grant_access, revoke_key
from tests import cast as people
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders
from tests.keyvault.web.test_query_counts import cost

pytestmark = pytest.mark.django_db
FEW, MANY = 2, 9


@pytest.fixture(autouse=True)
def policies(cast):
    rules.DEFAULTS.put(cast.now)


def ask(cast, number: int) -> None:
    """Have one more person and one more agent ask about one more key of one more team."""
    then = cast.now - timedelta(days=1)
    person, owner = (people.person(f"{who}-{number}", now=then) for who in ("asker", "owner"))
    with transaction.atomic():
        slug = f"team-{number}"
        team = accounts.create_team(slug=slug, title=slug, now=then, actor=people.HOST)
    people.join(owner, team.slug, now=then)
    key = builders.live(cast, name=f"key-{number}", team=team.slug)
    agent = agents.agent(cast, f"bot-{number}", owner=owner, team=team.group)
    access = grant_access.GrantAccess(
        key_id=key.pk, agent_id=agent.pk, asked_at=cast.now, ends_at=cast.now + timedelta(days=9)
    )
    given = {"requester": person, "reason": "It is needed.", "now": cast.now}
    with transaction.atomic():
        services.submit(action=revoke_key.RevokeKey(key_id=key.pk), **given)
        services.submit(action=access, asked_by=Actor("agent", str(agent.pk), agent.name), **given)


def asked(cast, first: int, last: int) -> None:
    for number in range(first, last):
        ask(cast, number)


@pytest.mark.parametrize("address", ["/", "/approvals/"])
def test_what_waits_for_an_approver(cast, client_for, address, django_assert_num_queries):
    bob = client_for(cast.bob)
    asked(cast, 0, FEW)
    few = cost(bob, address)
    asked(cast, FEW, MANY)

    with django_assert_num_queries(few):
        page = bob.get(address).content.decode()

    assert len(selectors.queue(cast.bob, now=cast.now)) == 2 * MANY
    assert "Revoke key-" in page


def test_a_list_and_the_page_of_a_request_agree_on_whose_turn_it_is(cast):
    asked(cast, 0, FEW)
    everybody = [*cast.everybody(), *people.User.objects.filter(username__contains="-")]
    row = Request.objects.order_by("number").first()
    for person in (cast.bob, people.User.objects.get(username="owner-0")):
        assert row.pk in {item.request.pk for item in selectors.queue(person, now=cast.now)}

    people.leave(people.User.objects.get(username="owner-0"), "team-0", now=cast.now)
    for person in everybody:
        listed = {item.request.pk for item in selectors.queue(person, now=cast.now)}
        for request in Request.objects.select_related("policy_version__policy"):
            stand = selectors.standing(request, person, now=cast.now)
            assert (request.pk in listed) == stand.may, (person, request)


@pytest.mark.parametrize("name", ["frank", "erin", "dave", "mallory"])
def test_the_held_jobs(cast, client_for, name, django_assert_num_queries):
    def hold():
        for request in Request.objects.exclude(pk__in=Job.objects.values("subject_id")):
            Job.objects.create(
                kind="request.execute", subject_id=request.pk, state="held", sentence="It failed."
            )

    reader = client_for(getattr(cast, name))
    Job.objects.all().delete()
    asked(cast, 0, FEW)
    Job.objects.all().delete()
    hold()
    few = cost(reader, "/system/")
    asked(cast, FEW, MANY)
    Job.objects.filter(state="ready").delete()
    hold()

    with django_assert_num_queries(few):
        page = reader.get("/system/").content.decode()

    assert page.count("It failed.") == (0 if name == "mallory" else 2 * MANY)
    assert page.count('class="strong" href="/approvals/') == (
        2 * MANY if name in {"frank", "dave"} else 0
    )
