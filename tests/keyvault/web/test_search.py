import pytest

from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db


def _find(client, text):
    page = client.get("/search/", {"q": text}, headers={"HX-Request": "true"})
    assert page.status_code == 200
    return [(hit.group, hit.title) for hit in page.context["hits"]]


def test_search_finds_keys_requests_people_and_pages(house, client_for):
    builders.live(house.cast)
    house.ask(wall="ledger room")
    client = client_for(house.cast.carol)

    found = _find(client, "ledger")

    assert ("Keys", "ledger-reader") in found
    assert ("Needs you", "Paint ledger room") in found
    assert ("People", "Bob") in _find(client, "BOB")
    assert ("Go to", "My requests") in _find(client, "my req")


def test_r33_search_never_shows_what_the_person_may_not_see(house, client_for):
    builders.live(house.cast)
    house.ask(wall="ledger room")

    found = _find(client_for(house.cast.mallory), "ledger")

    assert {group for group, _ in found} <= {"People", "Go to"}


def test_without_text_it_offers_what_needs_the_person_and_the_pages(house, client_for):
    house.ask()

    found = _find(client_for(house.cast.bob), "")

    assert found[0] == ("Needs you", "Paint north")
    assert {group for group, _ in found} == {"Needs you", "Go to"}


@pytest.mark.parametrize("text", ["%", "_", "' OR 1=1", "\\", "x" * 5000, "\u202e"])
def test_odd_characters_are_data(cast, client_for, text):
    builders.live(cast)

    assert ("Keys", "ledger-reader") not in _find(client_for(cast.alice), text)


def test_a_browser_without_scripts_gets_a_whole_page(cast, client_for):
    page = client_for(cast.alice).get("/search/", {"q": "people"}).content

    assert b"<h1>Search</h1>" in page
