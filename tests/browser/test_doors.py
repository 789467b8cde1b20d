"""The pages without the frame: signing in, stepping up, and what goes wrong."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from tests import cast as people
from tests.approvals.conftest import house, world
from tests.browser import harness

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db(transaction=True)


def _judge(page, assert_clean, name):
    for width, height in harness.SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        harness.shoot(page, f"{name}-{width}")
        assert_clean(page)


@pytest.mark.parametrize("theme", harness.THEMES)
def test_signing_in_is_clean_at_every_step(cast, totp, new_context, assert_clean, theme):
    page = new_context(theme=theme).new_page()
    page.goto(reverse("people"))
    _judge(page, assert_clean, f"login-{theme}")

    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    _judge(page, assert_clean, f"login-wrong-{theme}")

    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill(people.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**{reverse('mfa')}*")
    _judge(page, assert_clean, f"mfa-{theme}")

    page.locator("input[name=code]").fill(totp(cast.alice))
    page.get_by_role("button", name="Verify").click()
    page.wait_for_url(f"**{reverse('people')}")


@pytest.fixture(autouse=True)
def _statuses_are_no_faults(watch):
    watch.expect("Failed to load resource")


@pytest.mark.parametrize("theme", harness.THEMES)
def test_stepping_up_is_clean(house, signed_in_page, assert_clean, theme):
    request = house.ask()
    page = signed_in_page(house.cast.bob, theme=theme)
    page.goto(reverse("request", args=[request.pk]))
    page.get_by_role("radio", name="Approve as asked").check()
    page.get_by_role("button", name="Sign decision with a code").click()
    _judge(page, assert_clean, f"step-up-{theme}")

    page.locator("input[name=otp_code]").fill("000000")
    page.locator("form button[type=submit]").first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    _judge(page, assert_clean, f"step-up-wrong-{theme}")


@pytest.mark.parametrize("theme", harness.THEMES)
@pytest.mark.parametrize(
    ("name", "person", "address"),
    [
        ("not-found", "alice", "/keys/nothing-here/"),
        ("forbidden", "mallory", "/audit/"),
        ("no-such-page", "alice", "/nothing/like/it/"),
    ],
)
def test_a_refusal_is_clean(cast, signed_in_page, assert_clean, name, person, address, theme):
    page = signed_in_page(getattr(cast, person), theme=theme)

    page.goto(address)

    assert page.title().startswith("Problem: ")
    _judge(page, assert_clean, f"{name}-{theme}")


def test_a_stale_decision_shows_what_changed(house, signed_in_page, assert_clean, totp):
    request = house.ask()
    page = signed_in_page(house.cast.bob)
    page.goto(reverse("request", args=[request.pk]))
    house.edit(request, colour="blue")

    page.get_by_role("radio", name="Approve as asked").check()
    page.get_by_role("button", name="Sign decision with a code").click()
    if page.locator("input[name=otp_code]").count():
        page.locator("input[name=otp_code]").fill(totp(house.cast.bob))
        page.locator("form button[type=submit]").first.click()

    expect(page.get_by_text("blue").first).to_be_visible()
    _judge(page, assert_clean, "conflict-light")
