"""The page that asks for another owner of an agent, and what leads to it."""

from __future__ import annotations

import re

import pytest
from django.db import transaction
from django.test import Client

from approvals.models import Request
from keyvault.accounts import services as accounts
from keyvault.agents import services as registry
from tests import cast as people
from tests.keyvault.actions import conftest as actions
from tests.keyvault.agents import builders
from tests.keyvault.web.test_keys import clean

pytestmark = pytest.mark.django_db
_registry, fake, house = actions._registry, actions.fake, actions.house
PAGE, FORM = "/agents/refund-bot/", "/agents/refund-bot/owner/"


def client(person) -> Client:
    return people.sign_in(Client(), person)


def orphan(house):
    agent = builders.agent(house.cast, backup_owner=None)
    with transaction.atomic():
        accounts.deactivate(user=house.cast.alice, now=house.now, actor=builders.TESTS)
    return agent


def said(owner, backup=None, **changes) -> dict[str, str]:
    usual = {
        "owner": str(owner.pk),
        "backup_owner": str(backup.pk) if backup else "",
        "reason": "Alice has left.",
    }
    return usual | changes


def chosen(page, field) -> list[str]:
    """Return the labels that a list of the form offers."""
    return [label for _, label in page.context["form"].fields[field].choices]


def test_r31_for_an_orphan_the_form_opens_for_its_team_and_for_administrators(house):
    cast = house.cast
    orphan(house)

    for name in ("carol", "frank", "grace"):
        assert client(getattr(cast, name)).get(FORM).status_code == 200, name
    for name in ("bob", "dave", "erin", "mallory"):
        browser = client(getattr(cast, name))
        found, missing = browser.get(FORM), browser.get("/agents/no-such-bot/owner/")
        assert found.status_code == missing.status_code == 404, name
        strip = (b"refund-bot", b""), (b"no-such-bot", b"")
        assert clean(found, *strip) == clean(missing, *strip)
        assert browser.post(FORM, said(cast.carol)).status_code == 404
    assert not Request.objects.exists()


def test_the_problem_leads_whoever_may_ask_to_the_form_and_tells_the_others_who_can(house):
    cast = house.cast
    orphan(house)
    label = re.compile(rf'<a href="{FORM}"><span[^>]*>.*?No living owner')

    asker = client(cast.carol).get(PAGE).content.decode()
    reader = client(cast.dave).get(PAGE).content.decode()

    assert label.search(asker)
    assert asker.count(f'href="{FORM}"') == 3, "the problem, the note and the facts lead there"
    assert "No living owner" in reader
    assert FORM not in reader
    assert "An administrator or a member of Payments can ask for a new owner." in reader


def test_a_living_owner_finds_it_beside_the_facts(house):
    builders.agent(house.cast)

    assert f'href="{FORM}"' in client(house.cast.alice).get(PAGE).content.decode()
    for other in (house.cast.frank, house.cast.erin):
        assert FORM not in client(other).get(PAGE).content.decode()


def test_only_those_who_can_answer_for_it_are_offered(house):
    cast = house.cast
    orphan(house)
    with transaction.atomic():
        people.person("fresh", now=house.now, enrolled=False)

    page = client(cast.frank).get(FORM)

    assert chosen(page, "owner") == ["Carol (carol)"]
    assert "Bob (bob)" in chosen(page, "backup_owner")
    assert not {"Alice (alice)", "Fresh (fresh)"} & set(chosen(page, "backup_owner"))
    assert "Alice is deactivated, and there is no backup owner" in page.content.decode()


def test_it_is_asked_for_once_decided_and_done(house):
    cast, agent = house.cast, orphan(house)
    browser = client(cast.frank)

    answer = browser.post(FORM, said(cast.carol, cast.erin))
    again = browser.post(FORM, said(cast.carol))

    request = Request.objects.get(kind="agent.change_owner")
    assert answer["Location"] == again["Location"] == f"/approvals/{request.pk}/"
    assert "Carol answers for refund-bot" in browser.get(PAGE).content.decode()
    house.say(cast.bob, request)
    house.work()
    agent.refresh_from_db()
    assert (agent.owner, agent.backup_owner) == (cast.carol, cast.erin)
    page = client(cast.carol).get(PAGE).content.decode()
    assert "No living owner" not in page
    history = browser.get(f"{PAGE}history/").content.decode()
    assert "Other people answer for the agent refund-bot now." in history


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"owner": "bob"}, "owner"),
        ({"owner": "nobody"}, "owner"),
        ({"backup_owner": "alice"}, "backup_owner"),
        ({"backup_owner": "carol"}, "backup_owner"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 4001}, "reason"),
    ],
)
def test_r39_what_cannot_be_asked_is_said_at_its_field(house, changes, field):
    cast = house.cast
    orphan(house)
    given = {
        name: str(getattr(cast, value).pk) if hasattr(cast, value) else value
        for name, value in changes.items()
    }

    answer = client(cast.frank).post(FORM, said(cast.carol) | given | {"state": "retired"})

    assert answer.status_code == 422
    assert field in answer.context["form"].errors
    assert not Request.objects.exists()


def test_what_holds_already_and_what_is_retired_is_said_above_the_form(house):
    cast = house.cast
    agent = builders.agent(cast)

    same = client(cast.alice).post(FORM, said(cast.alice, cast.carol))
    with transaction.atomic():
        registry.set_state(
            agent_id=agent.pk, state="retired", cause="x", actor=builders.TESTS, now=house.now
        )
    over = client(cast.alice).post(FORM, said(cast.carol))

    assert (same.status_code, over.status_code) == (422, 422)
    assert "answer for refund-bot already" in same.content.decode()
    assert "was retired" in over.content.decode()
    assert FORM not in client(cast.alice).get(PAGE).content.decode()


def test_a_team_without_anybody_says_the_mend(house):
    cast = house.cast
    orphan(house)
    people.leave(cast.carol, "payments", now=house.now)

    page = client(cast.frank).get(FORM).content.decode()

    assert "Nobody can own it" in page
    assert "Send for approval" not in page


def test_hostile_words_are_inert(house):
    cast = house.cast
    orphan(house)
    cast.carol.name = "<script>alert(1)</script>"
    cast.carol.save()

    page = client(cast.frank).get(FORM).content.decode()

    assert "<script>alert" not in page
