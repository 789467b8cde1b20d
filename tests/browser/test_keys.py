"""The form that asks for a key, and the page that shows a value, in a real browser."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Error, expect

from keyvault.actions import change_keys
from keyvault.actions.change_keys import Wanted
from keyvault.inventory.models import Key
from keyvault.vault import selectors as versions
from tests import cast as people
from tests.browser.scenes import HOSTILE, LONG_NAME
from tests.keyvault.actions import conftest as actions

pytestmark = pytest.mark.django_db(transaction=True)
_registry, fake, house = actions._registry, actions.fake, actions.house

FORM = "/requests/new/?connection=everywhere"


def test_the_column_beside_the_form_follows_what_is_chosen(house, signed_in_page, assert_clean):
    page = signed_in_page(house.cast.alice)
    page.goto(FORM)
    aside = page.locator("#deciders")
    aside.get_by_text("Policy Keys in protected environments.").wait_for()
    point = aside.get_by_text("Protected environment", exact=True)
    expect(point).to_have_count(0)

    page.get_by_label("Environment").select_option("prod")

    point.wait_for()
    assert_clean(page)


def test_without_scripts_a_button_previews_and_a_suggestion_fills_its_field(house, signed_in_page):
    page = signed_in_page(house.cast.alice, java_script_enabled=False)
    page.goto(FORM)
    page.get_by_label("Name", exact=True).fill("half-typed")
    page.get_by_label("Environment").select_option("prod")

    page.get_by_role("button", name="Preview who decides").click()
    expect(page.get_by_text("Policy Keys in protected environments.")).to_be_visible()
    page.get_by_role("button", name="Let it live 7 days").click()

    expect(page.get_by_label("Lifetime in days")).to_have_value("7")
    assert page.get_by_label("Name", exact=True).input_value() == "half-typed"


def test_enter_in_a_field_sends_the_form_and_faults_take_the_focus(house, signed_in_page):
    page = signed_in_page(house.cast.alice)
    page.goto(FORM)
    page.get_by_label("Name", exact=True).fill("Not plain!")
    page.get_by_label("Purpose").fill("Reads the ledger.")

    page.get_by_label("Name", exact=True).press("Enter")

    page.locator("#error-summary").wait_for()
    assert page.evaluate("document.activeElement.id") == "error-summary"
    assert page.get_by_label("Purpose").input_value() == "Reads the ledger."


def test_a_fixed_day_is_chosen_by_keyboard_and_stands_on_the_page_of_the_key(
    house, signed_in_page, judged
):
    page = signed_in_page(house.cast.alice)
    page.goto(FORM)
    page.get_by_label("Name", exact=True).fill("ledger-reader")
    page.get_by_label("Environment").select_option("dev")
    page.get_by_label("Purpose").fill("Reads the ledger.")
    page.get_by_label("On a fixed day").press("M")
    expect(page.get_by_label("On a fixed day")).to_have_value("mon")
    page.get_by_label("At, in UTC").fill("07:30")
    judged(page, "key-fixed-day-form")

    page.get_by_role("button", name="Send for approval").last.press("Enter")
    expect(page.get_by_text("on a Monday at 07:30 UTC")).to_be_visible()

    page.goto("/keys/ledger-reader/")
    expect(page.get_by_text("at least every 30 days, on a Monday at 07:30 UTC")).to_be_visible()
    judged(page, "key-fixed-day")


def test_r8_a_shown_value_leaves_the_page_with_its_reader(house, signed_in_page, assert_clean):
    key = house.create()
    house.permit(key)
    value = house.fake.values[versions.by_number(key.pk, 1).remote_id].decode()
    page = signed_in_page(house.cast.alice)
    page.goto("/keys/ledger-reader/")
    page.get_by_role("link", name="Reveal once").click()
    assert_clean(page)
    page.get_by_role("button", name="Reveal once").click()
    page.get_by_label("Code").fill(people.totp_code(house.cast.alice))
    page.get_by_role("button", name="Reveal for 60 seconds").click()

    expect(page.locator("output")).to_have_text(value)
    assert_clean(page)
    page.evaluate("window.dispatchEvent(new Event('pagehide'))")

    assert value not in page.content()
    page.goto("/keys/ledger-reader/versions/1/reveal/")
    assert "Alice revealed this version" in page.content()
    # The browser has kept nothing: it would have to post again, and that shows nothing either.
    with pytest.raises(Error, match="ERR_CACHE_MISS"):
        page.go_back()
    expect(page.get_by_text(value)).to_have_count(0)
    assert Key.objects.get().rotation_cause == "seen by a person"


def test_a_request_of_many_changes_names_each_with_its_key(house, signed_in_page, judged):
    fields = {"labels": ("ai", "x" * 30), "allowed_hosts": (), "volume_per_day": 5_000}
    wanted = [
        change_keys.Wanted(house.create(name=name).name, fields)
        for name in ("ledger-reader", LONG_NAME)
    ]
    asked = change_keys.ask(
        person=house.cast.alice, wanted=wanted, reason=HOSTILE, now=house.now
    ).request
    page = signed_in_page(house.cast.bob)

    page.goto(f"/approvals/{asked.pk}/")

    expect(page.get_by_text(f"Labels of {LONG_NAME}")).to_be_visible()
    judged(page, "change-many")


def test_the_request_to_change_several_keys_is_clean(house, signed_in_page, judged):
    names = ("ledger-reader", "orders-reader-" + "x" * 30)
    for name in names:
        house.pull(name=name)
    wanted = [
        Wanted(name, {"volume_per_day": 77, "allowed_hosts": ("api.example.com",)})
        for name in names
    ]
    asked = change_keys.ask(
        person=house.cast.alice, wanted=wanted, reason="As in the file.", now=house.now
    )
    page = signed_in_page(house.cast.bob)

    page.goto(reverse("request", args=[asked.request.pk]))

    expect(page.get_by_text(f"Calls a day of {names[0]}")).to_be_visible()
    judged(page, "request-many")
