from __future__ import annotations

from datetime import timedelta

import pytest

from keyvault.inventory import selectors
from keyvault.inventory.keyset import BadFilter
from keyvault.inventory.models import Key
from keyvault.inventory.selectors import Filters
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db


def names(page) -> list[str]:
    return [key.name for key in page.keys]


def listed(person, cast, **query) -> list[str]:
    return names(selectors.keys_for(person, Filters.parse(query), now=cast.now))


@pytest.mark.parametrize(
    "query",
    [
        {"ordering": "secret__value"},
        {"key__owner__password__startswith": "a"},
        {"owner__password__startswith": "a"},
        {"sort": "owner__password"},
        {"state": "alive"},
        {"owner": "bob"},
        {"q": "a\x00b"},
        {"q": "x" * 200},
    ],
)
def test_r33_only_listed_filters_are_accepted(query):
    with pytest.raises(BadFilter):
        Filters.parse(query)


def test_r33_a_list_count_and_search_never_show_a_denied_key(cast):
    builders.live(cast)

    for query in ({}, {"q": "ledger"}, {"environment": "dev"}, {"provider": "postgresql"}):
        page = selectors.keys_for(cast.mallory, Filters.parse(query), now=cast.now)
        assert (names(page), page.count) == ([], 0)
    assert set(selectors.counts(cast.mallory, now=cast.now).values()) == {0}


def test_owner_team_auditor_and_administrator_find_the_key(cast):
    builders.live(cast)

    for person in (cast.alice, cast.carol, cast.dave, cast.frank):
        assert listed(person, cast) == ["ledger-reader"]


def test_filters_narrow_the_list(cast):
    builders.live(cast)
    builders.live(
        cast, name="other-key", title="Other", environment="prod", lifetime_days=7, labels=("pii",)
    )

    assert listed(cast.alice, cast, environment="prod") == ["other-key"]
    assert listed(cast.alice, cast, due="expiring") == ["other-key"]
    assert listed(cast.alice, cast, label="PII") == ["other-key"]
    assert listed(cast.alice, cast, q="LEDGER") == ["ledger-reader"]
    assert listed(cast.alice, cast, team="payments", state="live") == ["ledger-reader", "other-key"]
    assert listed(cast.carol, cast, owner="me") == []


@pytest.mark.parametrize("sort", ["name", "expires"])
def test_pages_walk_forth_and_back_over_every_key_once(cast, monkeypatch, sort):
    monkeypatch.setattr(selectors, "PAGE_SIZE", 2)
    wanted = []
    for number in range(5):
        wanted.append(f"key-number-{number}")
        builders.live(cast, name=wanted[-1], lifetime_days=10 + number // 2)
    filters = Filters.parse({"sort": sort})

    pages, after = [], ""
    while True:
        page = selectors.keys_for(cast.alice, filters, now=cast.now, after=after)
        pages.append(names(page))
        if not (after := page.after):
            break
    back = selectors.keys_for(cast.alice, filters, now=cast.now, before=page.before)

    assert [name for page in pages for name in page] == wanted
    assert names(back) == pages[-2]
    assert page.count == 5
    first = selectors.keys_for(cast.alice, filters, now=cast.now, before=back.before)
    assert (names(first), first.before) == (pages[0], "")


def test_a_forged_cursor_is_refused(cast):
    with pytest.raises(BadFilter):
        selectors.keys_for(cast.alice, Filters(), now=cast.now, after="forged")


def test_a_cursor_of_another_order_is_refused(cast, monkeypatch):
    monkeypatch.setattr(selectors, "PAGE_SIZE", 1)
    builders.live(cast)
    builders.live(cast, name="other-key")
    cursor = selectors.keys_for(cast.alice, Filters(), now=cast.now).after

    with pytest.raises(BadFilter):
        selectors.keys_for(cast.alice, Filters(sort="expires"), now=cast.now, after=cursor)


def test_marks_say_what_is_near_and_what_is_late(cast):
    key = builders.live(cast)
    assert selectors.marks(key, now=cast.now) == ()
    assert selectors.marks(key, now=cast.now + timedelta(days=80))[0] == "expiring"
    assert selectors.marks(key, now=cast.now + timedelta(days=91)) == ("overdue",)


def test_holders_name_who_may_do_what_and_why(cast):
    key = builders.live(cast, backup_owner=cast.carol.pk)
    rows = {(row.name, row.reason): row for row in selectors.holders(key, now=cast.now)}

    assert len(rows["Alice", "owner"].permissions) == 4
    assert set(rows["Payments", "owning team"].people) == {"Alice", "Carol"}
    assert ("Carol", "backup owner") in rows


def test_a_person_with_no_keys_costs_no_more_queries(cast, django_assert_max_num_queries):
    for number in range(6):
        builders.live(cast, name=f"key-number-{number}")
    with django_assert_max_num_queries(8):
        page = selectors.keys_for(cast.alice, Filters(), now=cast.now)
        [(key.environment.slug, str(key.owner), str(key.team.team)) for key in page.keys]
    assert Key.objects.count() == 6
