"""Leases in a real browser: one is ended with a code, and the page of its key follows."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from keyvault.leases import sweep
from keyvault.leases.models import Lease
from tests import cast as people
from tests.approvals.conftest import house, world
from tests.browser import scenes

__all__ = ["house", "world"]
pytestmark = pytest.mark.django_db(transaction=True)
PAGES = {
    "lent-key": "/keys/shop-repository/",
    "lent-key-leases": "/keys/shop-repository/leases/",
    "lent-key-empty": "/keys/quiet-repository/leases/",
    "lent-agent": "/agents/refund-bot/",
    "lent-form": "/requests/new/?connection=github",
}


def test_the_pages_of_leases_are_clean(house, signed_in_page, judged):
    scenes.busy(house)
    page = signed_in_page(house.cast.frank)
    for name, address in PAGES.items():
        page.goto(address)
        judged(page, name)


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without"])
def test_a_lease_is_ended_with_a_code(house, signed_in_page, scripts):
    scenes.busy(house)
    lease = Lease.objects.get(state="open")
    page = signed_in_page(house.cast.alice, java_script_enabled=scripts)
    page.goto("/keys/shop-repository/leases/")
    expect(page.get_by_role("button", name="End…")).to_have_count(1)

    page.get_by_role("button", name="End…").click()
    page.get_by_label("Code").fill(people.totp_code(house.cast.alice))
    page.get_by_role("button", name="End the lease").click()
    page.wait_for_url("**/keys/shop-repository/leases/")

    expect(page.get_by_text("held is ending")).to_be_visible()
    expect(page.get_by_role("button", name="End…")).to_have_count(0)
    lease.refresh_from_db()
    assert (lease.state, lease.aim) == ("ending", "withdrawn")
    sweep.run(lease.lapses_at)
    page.reload()
    expect(page.get_by_role("cell", name="Withdrawn").first).to_be_visible()
