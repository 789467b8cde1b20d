"""The cards of the own sessions and of the public signing keys, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from approvals import receipts

pytestmark = pytest.mark.django_db(transaction=True)

ACCOUNT, SYSTEM = "/account/security/", "/system/"


def test_a_session_that_is_ended_here_is_over_there(cast, signed_in_page, assert_clean):
    here, there = signed_in_page(cast.alice), signed_in_page(cast.alice)
    there.goto(ACCOUNT)
    here.goto(ACCOUNT)
    card = here.get_by_role("region", name="Sessions")
    assert card.get_by_text("This browser").count() == 1

    card.get_by_role("button", name="End this session").click()

    expect(card.get_by_role("button", name="End this session")).to_have_count(0)
    assert_clean(here)
    there.reload()
    assert there.url.split("?")[0].endswith("/auth/login/")


def test_everywhere_is_here_too(cast, signed_in_page):
    page = signed_in_page(cast.alice)
    page.goto(ACCOUNT)

    page.get_by_role("button", name="Sign out everywhere").click()
    page.wait_for_url("**/auth/login/**")
    page.goto(ACCOUNT)

    assert page.url.split("?")[0].endswith("/auth/login/")


def test_a_signing_key_is_copied_whole(cast, signed_in_page, assert_clean):
    page = signed_in_page(cast.dave, permissions=["clipboard-read", "clipboard-write"])
    page.goto(SYSTEM)
    card = page.get_by_role("region", name="Signing keys")

    card.get_by_role("button", name="Copy").first.click()
    card.get_by_role("button", name="Copied").wait_for()

    assert page.evaluate("navigator.clipboard.readText()") == receipts.public_key()
    assert card.get_by_text("keyvault verify RECEIPT.json --trust KEY").is_visible()
    assert_clean(page)
