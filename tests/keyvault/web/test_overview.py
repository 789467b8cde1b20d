from datetime import timedelta

import pytest
from django.db import DatabaseError

from approvals.ports import Subject
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory.models import Key
from keyvault.rotation.models import Rotation
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


def _live(cast, now, name, *, at=None, turn=60):
    key = builders.live(cast, name=name, now=now - timedelta(days=50))
    Key.objects.filter(pk=key.pk).update(
        expires_at=now + timedelta(days=300),
        rotation_due_at=now + timedelta(days=turn),
        **({"connection": at} if at else {}),
    )
    return key


def test_keys_with_no_automatic_renewal_are_named_by_their_day(cast, client_for, now):
    by_hand = builders.connection(cast, "console", provider="manual")
    unloaded = builders.connection(cast, "gone", provider="no-such-plugin")
    _live(cast, now, "by-itself", turn=20)
    for number in range(6):
        _live(cast, now, f"by-hand-{number}", at=by_hand, turn=30 - number)
    _live(cast, now, "orphaned", at=unloaded, turn=20)

    seen = fleet.fleet(cast.alice, now=now)

    assert (seen.by_hand.count, seen.by_hand.further) == (7, 2)
    assert [name for name, _ in seen.by_hand.next] == [
        "orphaned",
        "by-hand-5",
        "by-hand-4",
        "by-hand-3",
        "by-hand-2",
    ]
    turns, ends = seen.strips
    assert "7 need a person" in turns.label
    assert {day for day, cell in enumerate(turns.cells) if cell.css == "hx"} == {20, *range(25, 31)}
    assert not any(cell.css == "hx" for cell in ends.cells)
    page = client_for(cast.alice).get("/").content.decode()
    assert "7 keys with no automatic renewal" in page
    assert "and 2 more" in page
    assert fleet.fleet(cast.mallory, now=now).by_hand.count == 0


def test_no_word_of_it_where_all_keys_renew_themselves(cast, client_for, now):
    _live(cast, now, "by-itself")

    page = client_for(cast.alice).get("/").content.decode()

    assert "Next 90 days" in page
    assert "no automatic renewal" not in page
    assert "needs a person" not in page


@pytest.fixture
def held(cast, now):
    """A rotation of alice's key that waits for a person, with its finding."""
    key = builders.live(cast)
    row = Rotation.objects.create(
        key=key,
        request_id=key.request_id,
        trigger="cadence",
        started_by="Schedule",
        state="held",
        held_from="promoting",
        sentence="refund-bot did not confirm the new version of ledger-reader in time.",
        since=now - timedelta(hours=2),
        created_at=now - timedelta(hours=3),
    )
    findings.open(
        kind=FindingKind.ROTATION,
        subject=Subject("key", str(key.pk), key.name),
        detail=str(row.pk),
        sentence=row.sentence,
        now=now,
    )
    return row


def test_a_held_rotation_needs_who_can_decide_about_it(cast, now, held):
    (item,) = work.needs(cast.alice, now=now)

    assert (item.title, item.css) == ("The rotation of ledger-reader needs a person", "bad")
    assert item.href == f"/rotations/{held.pk}/"
    assert "did not confirm" in item.about
    assert _titles(cast.mallory, now) == []
    # Whoever manages every key is told once, and not by the finding a second time.
    assert _titles(cast.frank, now) == ["The rotation of ledger-reader needs a person"]


def test_the_finding_leads_whoever_may_see_the_key_to_the_rotation(cast, client_for, now, held):
    (of_dave,) = work.needs(cast.dave, now=now)
    (of_erin,) = work.needs(cast.erin, now=now)

    assert of_dave.href == f"/rotations/{held.pk}/"
    assert of_dave.title == "Rotation that waits for a person: ledger-reader"
    # A responder sees no key by role, and is led to no page that is hidden from them.
    assert of_erin.href == "/system/#findings"
    assert f"/rotations/{held.pk}/" in client_for(cast.dave).get("/system/").content.decode()
    assert f"/rotations/{held.pk}/" not in client_for(cast.erin).get("/system/").content.decode()
