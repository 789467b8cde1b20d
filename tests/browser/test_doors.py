"""The pages without the frame: signing in, stepping up, and what goes wrong."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from tests.approvals.conftest import house, world

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _statuses_are_no_faults(watch):
    watch.expect("Failed to load resource")


def test_stepping_up_is_clean(house, signed_in_page, judged):
    request = house.ask()
    page = signed_in_page(house.cast.bob)
    page.goto(reverse("request", args=[request.pk]))
    page.get_by_role("radio", name="Approve as asked").check()
    page.get_by_role("button", name="Sign decision with a code").click()
    judged(page, "step-up")

    page.locator("input[name=otp_code]").fill("000000")
    page.locator("form button[type=submit]").first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    judged(page, "step-up-wrong")


@pytest.mark.parametrize(
    ("name", "person", "address"),
    [
        ("not-found", "alice", "/keys/nothing-here/"),
        ("forbidden", "mallory", "/audit/"),
        ("no-such-page", "alice", "/nothing/like/it/"),
    ],
)
def test_a_refusal_is_clean(cast, signed_in_page, judged, name, person, address):
    page = signed_in_page(getattr(cast, person))

    page.goto(address)

    assert page.title().startswith("Problem: ")
    judged(page, name)


def test_a_stale_decision_shows_what_changed(house, signed_in_page, judged, totp):
    request = house.ask()
    page = signed_in_page(house.cast.bob)
    page.goto(reverse("request", args=[request.pk]))
    house.edit(request, colour="blue")

    page.get_by_role("radio", name="Approve as asked").check()
    with page.expect_navigation():
        page.get_by_role("button", name="Sign decision with a code").click()
    if page.locator("input[name=otp_code]").count():
        page.locator("input[name=otp_code]").fill(totp(house.cast.bob))
        page.locator("form button[type=submit]").first.click()

    expect(page.get_by_text("blue").first).to_be_visible()
    judged(page, "conflict")
