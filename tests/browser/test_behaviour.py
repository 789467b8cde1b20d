"""What scripts add: search, themes, single keys, live refresh. And that pages work without."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from tests.approvals.conftest import house, world

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db(transaction=True)

CANVAS = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture
def bobs_page(house, signed_in_page) -> Page:
    """Return bob's queue."""
    page = signed_in_page(house.cast.bob)
    page.goto(reverse("approvals"))
    return page


def test_ctrl_k_finds_a_request_and_enter_opens_it(house, bobs_page, assert_clean):
    request = house.ask(wall="kitchen")

    bobs_page.keyboard.press("Control+k")
    expect(bobs_page.get_by_role("dialog", name="Search")).to_be_visible()
    bobs_page.keyboard.type("kitchen")
    expect(bobs_page.get_by_role("option", name="Paint kitchen")).to_have_attribute(
        "aria-selected", "true"
    )
    assert_clean(bobs_page)
    bobs_page.keyboard.press("Enter")

    bobs_page.wait_for_url(f"**{reverse('request', args=[request.pk])}")


def test_escape_closes_the_search_and_gives_the_focus_back(bobs_page):
    button = bobs_page.get_by_role("button", name="Search or go to…")
    button.click()
    bobs_page.keyboard.press("Escape")

    expect(bobs_page.get_by_role("dialog", name="Search")).to_be_hidden()
    expect(button).to_be_focused()


def test_the_arrows_move_through_the_results(bobs_page):
    bobs_page.keyboard.press("Control+k")
    first = bobs_page.get_by_role("option").first
    expect(first).to_have_attribute("aria-selected", "true")

    bobs_page.keyboard.press("ArrowDown")

    expect(first).to_have_attribute("aria-selected", "false")
    chosen = bobs_page.locator("[aria-selected=true]").get_attribute("id")
    expect(bobs_page.get_by_role("combobox")).to_have_attribute("aria-activedescendant", chosen)


def test_a_search_without_result_says_so(bobs_page):
    bobs_page.keyboard.press("Control+k")
    bobs_page.keyboard.type("nothing like this")

    expect(bobs_page.get_by_text("Nothing that you may see matches")).to_be_visible()


def test_nobody_finds_what_they_may_not_see(house, signed_in_page):
    house.ask(wall="cellar")
    page = signed_in_page(house.cast.mallory)
    page.goto(reverse("approvals"))
    page.keyboard.press("Control+k")
    page.keyboard.type("cellar")

    expect(page.get_by_text("Nothing that you may see matches")).to_be_visible()


def test_the_chosen_theme_outlives_the_page(bobs_page):
    before = bobs_page.evaluate(CANVAS)

    bobs_page.get_by_role("button", name="Switch between light and dark").click()
    after = bobs_page.evaluate(CANVAS)
    bobs_page.reload()

    assert after != before
    assert bobs_page.evaluate(CANVAS) == after


def test_a_new_request_appears_without_a_reload(house, bobs_page):
    expect(bobs_page.locator("[data-live=queue]")).to_be_visible()
    with bobs_page.expect_response("**/live/**"):
        pass

    house.ask(wall="attic")

    expect(bobs_page.get_by_role("link", name="Paint attic")).to_be_visible(timeout=15_000)


def test_a_page_that_is_no_longer_live_says_since_when(house, signed_in_page, watch):
    page = signed_in_page(house.cast.frank)
    watch.expect("Failed to load resource")
    page.route("**/live/**", lambda route: route.abort())
    page.clock.install()
    page.goto(reverse("system"))

    for _ in range(6):
        page.clock.run_for(30_000)
        page.wait_for_timeout(50)

    expect(page.locator("[data-live-text]")).to_contain_text("not live since")


def test_single_keys_select_and_never_send(house, bobs_page):
    request = house.ask()
    bobs_page.goto(reverse("request", args=[request.pk]))

    bobs_page.keyboard.press("a")

    expect(bobs_page.get_by_role("radio", name="Approve as asked")).to_be_checked()
    assert bobs_page.url.endswith(reverse("request", args=[request.pk]))


def test_single_keys_are_dead_inside_fields(house, bobs_page):
    request = house.ask()
    bobs_page.goto(reverse("request", args=[request.pk]))
    note = bobs_page.get_by_label("Note to requester")

    note.press_sequentially("xam g o")

    expect(note).to_have_value("xam g o")
    assert bobs_page.locator("input[name=verdict]:checked").count() == 0


def test_g_then_m_goes_to_my_requests(bobs_page):
    bobs_page.keyboard.press("g")
    bobs_page.keyboard.press("m")

    bobs_page.wait_for_url(f"**{reverse('requests')}")


def test_j_and_enter_open_the_first_request(house, bobs_page):
    request = house.ask()
    bobs_page.reload()

    bobs_page.keyboard.press("j")
    bobs_page.keyboard.press("Enter")

    bobs_page.wait_for_url(f"**{reverse('request', args=[request.pk])}")


def test_the_first_tab_offers_to_skip_the_navigation(bobs_page):
    bobs_page.keyboard.press("Tab")
    skip = bobs_page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()

    bobs_page.keyboard.press("Enter")

    expect(bobs_page.locator("main")).to_be_focused()


def test_the_last_tab_on_phones_holds_what_the_bar_has_no_room_for(
    house, signed_in_page, assert_clean
):
    page = signed_in_page(house.cast.bob, width=390)
    page.goto(reverse("approvals"))

    page.get_by_role("button", name="More").click()

    expect(page.get_by_role("link", name="System").last).to_be_visible()
    assert_clean(page)


def test_a_decision_works_without_scripts(house, signed_in_page, totp):
    request = house.ask()
    page = signed_in_page(house.cast.bob, java_script_enabled=False)
    page.goto(reverse("request", args=[request.pk]))

    page.get_by_role("radio", name="Approve as asked").check()
    page.get_by_role("button", name="Sign decision with a code").click()
    page.locator("input[name=otp_code]").fill(totp(house.cast.bob))
    with page.expect_navigation():
        page.locator("form[method=post] button[type=submit]").last.click()

    assert request.decisions.filter(person=house.cast.bob).exists()


def test_script_text_is_refused_by_the_policy(bobs_page, watch):
    watch.expect("TrustedScript")
    watch.expect("csp:")

    ran = bobs_page.evaluate(
        "() => { const script = document.createElement('script');"
        " try { script.textContent = 'window.ran = 1' } catch {}"
        " document.head.append(script); return window.ran === 1 }"
    )

    assert not ran
    assert watch.messages == []
