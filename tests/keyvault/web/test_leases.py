"""Leases on the pages of a key and of an agent: who sees what, and who ends one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.test.utils import CaptureQueriesContext

from keyvault.actions import new_key
from keyvault.inventory import grants
from keyvault.leases import selectors
from keyvault.leases.models import Lease
from keyvault.web import lease_parts
from tests.keyvault.agents import builders
from tests.keyvault.inventory import builders as declarations
from tests.keyvault.leases.conftest import OPTIONS, lending, proxy, server, shop
from tests.keyvault.web.test_agents import _registry, client, confirmed, fake, house

__all__ = ["_registry", "fake", "house", "lending", "proxy", "server", "shop"]
pytestmark = pytest.mark.django_db


def returned(shop, key, count: int, *, ago=timedelta()):
    """Have leases of a key been taken and returned some time ago."""
    at = shop.now - ago
    later = at + timedelta(minutes=15)
    Lease.objects.bulk_create(
        Lease(
            agent=shop.agent,
            key=key,
            state="returned",
            created_at=at,
            expires_at=later,
            lapses_at=later,
            ended_at=later,
        )
        for _ in range(count)
    )


def page(shop, person, path="/keys/shop-repository/leases/"):
    return client(person).get(path)


def test_the_page_of_a_lent_key_shows_leases_in_place_of_versions(shop, cast):
    found = page(shop, cast.alice, "/keys/shop-repository/")

    text = found.content.decode()
    assert "No lease yet" in text
    assert "One for each run, none kept" in text
    assert 'href="/keys/shop-repository/leases/"' in text
    for absent in ("/versions/", "/rotate/", 'id="h-secret"', "New value"):
        assert absent not in text


def test_a_key_with_versions_has_no_leases(shop, cast):
    shop.house.pull(name="ledger-reader")
    text = page(shop, cast.alice, "/keys/ledger-reader/").content.decode()
    assert "/leases/" not in text
    assert (
        "It is not lent" in page(shop, cast.alice, "/keys/ledger-reader/leases/").content.decode()
    )


def test_a_lease_is_shown_with_its_holder_and_never_with_its_value(shop, cast):
    lent = shop.take(scopes=["contents:read"])
    value = lent.material["token"].reveal()

    for path in ("/keys/shop-repository/leases/", "/agents/refund-bot/"):
        found = page(shop, cast.alice, path)
        assert b"contents:read" in found.content
        assert b"Open" in found.content
        assert value not in found.content
        assert lent.lease.remote_id.encode() not in found.content, "it is a digest of the value"
    assert b'<span class="count">1</span>' in page(shop, cast.alice).content


@pytest.mark.parametrize(
    ("name", "sees", "may_end"),
    [
        ("alice", True, True),
        ("carol", True, True),
        ("frank", True, True),
        ("dave", True, False),
        ("bob", False, False),
        ("mallory", False, False),
    ],
)
def test_r31_who_sees_a_lease_and_who_may_end_it(shop, cast, name, sees, may_end):
    lease = shop.take().lease
    person = getattr(cast, name)

    found = page(shop, person)

    assert found.status_code == (200 if sees else 404)
    address = f"/leases/{lease.pk}/end/"
    assert (address.encode() in found.content) == may_end
    posted = client(person).post(address)
    assert posted.status_code == (200 if may_end else 404)
    assert shop.state(lease) == "open", "without a code nothing has happened"


def test_a_lease_is_ended_from_the_key_and_from_the_agent_with_a_code(shop, cast):
    for at, leads_to in (
        ("key", "/keys/shop-repository/leases/"),
        ("agent", "/agents/refund-bot/"),
    ):
        lease = shop.take().lease
        answer = confirmed(client(cast.alice), cast.alice, f"/leases/{lease.pk}/end/", at=at)
        assert (answer.status_code, answer["Location"]) == (302, leads_to)
        assert shop.state(lease) == "ending"
        shop.work()
        assert shop.state(lease) == "withdrawn"
    assert shop.living() == 0


def test_a_responder_who_may_not_see_the_key_stops_the_agent_and_is_told_no_name(shop, cast):
    lease = shop.take().lease
    erin = client(cast.erin)
    assert b"shop-repository" not in erin.get("/agents/refund-bot/").content
    answer = erin.post(f"/leases/{lease.pk}/end/")
    assert answer.status_code == 404
    assert b"shop-repository" not in answer.content

    confirmed(erin, cast.erin, "/agents/refund-bot/suspend/", cause="odd calls")
    shop.work()

    assert (shop.state(lease), shop.living()) == ("withdrawn", 0)


def test_a_lease_that_has_ended_offers_no_end(shop, cast):
    lease = shop.take().lease
    shop.give_back(lease)
    found = page(shop, cast.alice).content
    assert b"Returned" in found
    assert f"/leases/{lease.pk}/end/".encode() not in found


def test_the_form_of_such_a_key_asks_for_no_cadence(shop, cast):
    text = page(shop, cast.alice, "/requests/new/?connection=github").content.decode()
    assert "option_longest_minutes" in text
    assert "cadence_days" not in text
    assert "calendar_day" not in text
    assert "Its owner reads it once" not in text


def test_such_a_key_has_no_fixed_day_either(shop, cast):
    asked = declarations.declared(
        name="shop-writer", connection="github", calendar="mon 09:00", delivery_mode="pull"
    )
    with pytest.raises(new_key.BadDeclaration) as refused:
        new_key.checked(asked, person=cast.alice)
    assert "leave it out" in refused.value.errors["calendar"]


def test_many_leases_cost_no_more_queries_than_few(shop, cast, django_assert_num_queries):
    from django.db import connection

    rows = [shop.take().lease for _ in range(2)]
    browser = client(cast.dave)
    for path in ("/keys/shop-repository/leases/", "/agents/refund-bot/"):
        browser.get(path)
        with CaptureQueriesContext(connection) as few:
            browser.get(path)
        Lease.objects.filter(pk__in=[row.pk for row in rows]).update(state="open")
        returned(shop, shop.key, 20)
        with django_assert_num_queries(len(few)):
            browser.get(path)


def test_leases_of_other_agents_are_not_on_an_agent_s_page(shop, cast):
    other = builders.agent(cast, "other-bot")
    builders.granted(cast, other, shop.key)
    shop.take(token=builders.token(cast, other).token, scopes=["contents:read"])
    assert b"contents:read" not in page(shop, cast.alice, "/agents/refund-bot/").content


def test_many_leases_of_hidden_keys_leave_room_for_those_of_visible_ones(shop, cast):
    seen = shop.house.pull(name="shop-writer", connection=shop.where.slug, options=OPTIONS)
    with transaction.atomic():
        grants.grant(
            key=seen,
            holder=cast.erin,
            permission="view",
            reason="She looks after it.",
            actor=builders.TESTS,
            now=cast.now,
        )
    returned(shop, seen, 1, ago=timedelta(days=1))
    returned(shop, shop.key, selectors.SHOWN)

    [line] = lease_parts.of_agent(cast.erin, shop.agent)
    assert (line.row.key, line.is_linked) == (seen, True)
    text = page(shop, cast.erin, "/agents/refund-bot/").content.decode()
    assert "shop-writer" in text
    assert "shop-repository" not in text
    assert len(lease_parts.of_agent(cast.alice, shop.agent)) == selectors.SHOWN
