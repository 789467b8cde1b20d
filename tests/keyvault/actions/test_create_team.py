"""A team is made by approval, with its first member, once."""

from __future__ import annotations

import pytest

from keyvault.accounts import gates, names, selectors
from keyvault.actions import create_team


def _ask(house, person=None, slug="agents"):
    return create_team.ask(
        person=person or house.cast.frank,
        slug=slug,
        name="Agents",
        reason="The agents get keys of their own.",
        now=house.now,
    )


@pytest.mark.django_db(transaction=True)
def test_a_team_exists_once_another_administrator_has_approved(house):
    request = _ask(house)
    assert not selectors.is_team_taken("agents")

    house.say(house.cast.grace, request)
    house.work()

    assert selectors.is_in(house.cast.frank, "agents")


@pytest.mark.django_db(transaction=True)
def test_a_team_taken_meanwhile_ends_the_request_and_harms_nobody(house):
    first, second = _ask(house), _ask(house, person=house.cast.grace)

    house.say(house.cast.grace, first)
    house.say(house.cast.frank, second)
    house.work()

    assert selectors.is_in(house.cast.frank, "agents")
    assert not selectors.is_in(house.cast.grace, "agents")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("slug", ["payments", "PAYMENTS ", "administrators"])
def test_ask_refuses_a_name_that_is_taken(house, slug):
    with pytest.raises(create_team.TeamTaken):
        _ask(house, slug=slug)


@pytest.mark.django_db(transaction=True)
def test_ask_refuses_a_name_that_no_form_could_find_again(house):
    with pytest.raises(names.BadName):
        _ask(house, slug="a.b c")


@pytest.mark.django_db(transaction=True)
def test_ask_refuses_whoever_is_no_administrator(house):
    with pytest.raises(gates.MissingRight):
        _ask(house, person=house.cast.alice)


@pytest.mark.django_db(transaction=True)
def test_the_page_keeps_what_was_typed_and_says_the_mend(house, client_for):
    typed = {"name": "Agents", "slug": "payments", "reason": "Because."}

    answer = client_for(house.cast.frank).post("/people/teams/new/", typed)

    assert answer.status_code == 422
    assert "There is a team or role payments already." in answer.content.decode()
    assert 'value="Agents"' in answer.content.decode()
