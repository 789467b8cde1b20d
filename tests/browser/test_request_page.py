"""The request page in a real browser: keys select, the 409 page is clean, no script is needed."""

from __future__ import annotations

import pytest
from django.urls import reverse

from approvals import services
from tests import cast as people
from tests.approvals.conftest import house, world
from tests.browser import harness

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db(transaction=True)


def test_keys_select_a_decision_and_never_send_it(house, signed_in_page):
    request = house.ask()
    page = signed_in_page(house.cast.bob)
    page.goto(reverse("request", args=[request.pk]))
    assert page.locator("input[name=verdict]:checked").count() == 0
    for key, verdict in {"a": "approve", "m": "changes", "x": "reject"}.items():
        page.locator("h1").click()
        page.keyboard.press(key)
        assert page.locator("input[name=verdict]:checked").get_attribute("value") == verdict
    page.locator("#id_comment").focus()
    page.keyboard.type("axm")
    assert page.locator("#id_comment").input_value() == "axm"
    assert page.locator("input[name=verdict]:checked").get_attribute("value") == "reject"
    assert not request.decisions.exists()


def test_j_and_k_walk_the_queue_and_are_letters_in_a_field(house, signed_in_page, assert_clean):
    walls = [house.ask(wall=wall) for wall in ("north", "east", "south")]
    first, second, third = (reverse("request", args=[row.pk]) for row in walls)
    page = signed_in_page(house.cast.bob)
    page.goto(first)

    page.keyboard.press("j")
    page.wait_for_url(f"**{second}")
    page.keyboard.press("j")
    page.wait_for_url(f"**{third}")
    page.keyboard.press("j")  # There is no next one: nothing moves.
    page.keyboard.press("k")
    page.wait_for_url(f"**{second}")
    page.locator("#id_comment").press_sequentially("jk")

    assert page.locator("#id_comment").input_value() == "jk"
    assert page.url.endswith(second)
    assert page.get_by_role("link", name="Previous request (K)").get_attribute("href") == first
    assert not any(row.decisions.exists() for row in walls)
    assert_clean(page)


def test_the_page_after_a_lost_race_is_clean_and_keeps_the_note(
    house, signed_in_page, watch, judged
):
    request = house.ask()
    page = signed_in_page(house.cast.bob)
    page.goto(reverse("request", args=[request.pk]))
    house.edit(request, colour="blue")
    page.locator("input[value=approve]").check()
    page.locator("#id_comment").fill("I like green.")
    watch.expect("409")
    page.get_by_role("button", name="Sign decision").click()
    page.get_by_role("heading", name="has changed since you opened it").wait_for()
    assert page.locator("#id_comment").input_value() == "I like green."
    assert page.locator("input[name=verdict]:checked").count() == 0
    judged(page, "request-conflict")


def test_a_decision_works_without_any_script(house, signed_in_page):
    request = house.ask()
    page = signed_in_page(house.cast.bob, java_script_enabled=False)
    page.goto(reverse("request", args=[request.pk]))
    page.locator("input[value=approve]").check()
    page.get_by_role("button", name="Sign decision").click()
    page.locator("input[name=otp_code]").fill(people.totp_code(house.cast.bob))
    page.locator("main button[type=submit]").click()
    page.get_by_text("More people must decide").wait_for()
    assert request.decisions.get().verdict == "approve"


@pytest.mark.parametrize("end", ["withdrawn", "expired", "invalidated"])
def test_closed_requests_are_clean(house, signed_in_page, assert_clean, end):
    request = house.approved() if end == "invalidated" else house.ask()
    if end == "withdrawn":
        services.withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)
    elif end == "expired":
        services.expire(now=house.later(days=2))
    else:
        house.world.colour = "yellow"
        house.work(request)
    page = signed_in_page(house.cast.alice)
    page.goto(reverse("request", args=[request.pk]))
    harness.shoot(page, f"request-{end}")
    assert_clean(page)


def test_an_auditor_reads_the_history_and_is_offered_no_comment(house, signed_in_page, judged):
    request, dave = house.ask(), house.cast.dave
    services.comment(
        request_id=request.pk, person=house.cast.bob, text="Which green?", now=house.now
    )
    house.world.watchers = frozenset({dave.pk})
    page = signed_in_page(dave)

    page.goto(reverse("request", args=[request.pk]))

    assert page.get_by_text("Which green?").count() == 1
    assert page.get_by_role("button", name="Comment without deciding").count() == 0
    judged(page, "request-auditor")
