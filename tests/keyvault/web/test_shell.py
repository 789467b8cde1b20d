import pytest
from django.db import DatabaseError
from django.test import RequestFactory

from approvals import selectors as approvals
from keyvault.web import shell

pytestmark = pytest.mark.django_db


def _entries(client):
    page = client.get("/approvals/")
    return {entry.slug: entry for _, group in page.context["shell"].groups for entry in group}


@pytest.mark.parametrize(
    "name", ["alice", "bob", "carol", "dave", "erin", "frank", "grace", "mallory"]
)
def test_the_navigation_leads_nobody_to_a_closed_door(cast, client_for, name):
    client = client_for(getattr(cast, name))

    answers = {slug: client.get(entry.href).status_code for slug, entry in _entries(client).items()}

    assert answers
    assert set(answers.values()) == {200}, answers


def test_only_readers_of_the_ledger_see_its_entry(cast, client_for):
    assert "audit" in _entries(client_for(cast.dave))
    assert "audit" not in _entries(client_for(cast.mallory))


def test_the_counts_are_those_of_this_person(house, client_for):
    house.ask()

    assert _entries(client_for(house.cast.bob))["inbox"].count == 1
    assert _entries(client_for(house.cast.dave))["inbox"].count == 0


def test_a_count_that_cannot_be_read_is_unknown(cast, client_for, monkeypatch):
    def fail(person):
        raise DatabaseError("gone")

    monkeypatch.setattr(approvals, "mine_count", fail)

    page = client_for(cast.alice).get("/people/").content.decode()
    assert "count unknown" in page


def test_a_visitor_gets_the_frame_without_anything_inside():
    frame = shell.Shell(RequestFactory().get("/"))

    assert not frame.signed_in
    assert frame.groups == []


def test_fragments_read_nothing_of_the_frame(cast, client_for):
    client = client_for(cast.alice)
    client.get("/search/?q=zz", headers={"HX-Request": "true"})

    page = client.get("/search/?q=zz", headers={"HX-Request": "true"})

    assert b"rail" not in page.content
