from datetime import timedelta

import pytest
from django.db import DatabaseError

from approvals.ports import Subject
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory.models import Key
from keyvault.web import fleet, overview, work
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db


def _titles(person, now):
    return [item.title for item in work.needs(person, now=now)]


def test_a_request_needs_who_decides_it_and_not_its_requester(house):
    house.ask()

    assert _titles(house.cast.bob, house.now) == ["Paint north"]
    assert _titles(house.cast.alice, house.now) == []


def test_a_request_that_came_back_needs_its_requester(house):
    request = house.ask()
    house.say(house.cast.bob, request, "changes", comment="For how long?")

    assert _titles(house.cast.alice, house.now) == ["Changes asked: Paint north"]
    assert _titles(house.cast.bob, house.now) == []


def test_a_key_that_runs_out_needs_its_owner_only(cast, now):
    key = builders.live(cast, now=now - timedelta(days=20))
    Key.objects.filter(pk=key.pk).update(expires_at=now + timedelta(days=5))

    (item,) = work.needs(cast.alice, now=now)

    assert (item.title, item.css, item.time) == ("ledger-reader expires", "warn", "5 d")
    assert _titles(cast.bob, now) == []


def test_a_finding_needs_whose_work_it_is_to_look(cast, now):
    findings.open(
        kind=FindingKind.ORPHAN,
        subject=Subject("connection", "x", "ledger-db"),
        sentence="A role that nobody asked for.",
        now=now,
    )

    assert _titles(cast.erin, now) == ["Credential that nobody owns: ledger-db"]
    assert _titles(cast.alice, now) == []


def test_the_figures_cover_visible_keys_only(cast, now):
    for number, days in enumerate((-1, 3, 40)):
        key = builders.live(cast, name=f"key-{number}", now=now - timedelta(days=50))
        Key.objects.filter(pk=key.pk).update(
            expires_at=now + timedelta(days=days), rotation_due_at=now + timedelta(days=60)
        )

    seen = fleet.fleet(cast.alice, now=now)
    unseen = fleet.fleet(cast.mallory, now=now)

    assert (seen.live, seen.inside, seen.due, seen.late) == (3, 1, 1, 1)
    assert seen.next_out == "key-1"
    assert [strip.total for strip in seen.strips] == [3, 2]
    assert (unseen.live, unseen.strips[0].total) == (0, 0)


def test_a_revoked_key_is_in_no_figure(cast, now):
    key = builders.live(cast)
    Key.objects.filter(pk=key.pk).update(state="revoked", revoked_at=now)

    assert fleet.fleet(cast.alice, now=now).live == 0


@pytest.mark.parametrize(
    ("name", "first"), [("dave", "ledger"), ("frank", "needs"), ("alice", "needs")]
)
def test_the_role_orders_the_blocks(cast, name, first):
    assert overview.lens(getattr(cast, name)).wide[0] == first


def test_a_block_that_cannot_be_read_says_so_and_the_others_stay(cast, client_for, monkeypatch):
    def fail(person, *, now):
        raise DatabaseError("gone")

    monkeypatch.setattr(fleet, "fleet", fail)
    page = client_for(cast.frank).get("/").content.decode()

    assert "The keys could not be read" in page
    assert "Needs you" in page


def test_an_empty_installation_says_where_a_key_starts(cast, client_for):
    page = client_for(cast.alice).get("/").content.decode()

    assert "Nothing is waiting for you" in page
    assert "A key starts with a request" in page
    assert "No key yet" in page
