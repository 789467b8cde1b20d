"""The kill switch, a secret and an access, in a real browser and by keyboard."""

from __future__ import annotations

import pytest
from django.db import transaction
from playwright.sync_api import expect

from keyvault.accounts import services as accounts
from keyvault.agents import tokens
from keyvault.agents.models import Agent
from tests import cast as people
from tests.keyvault.actions import conftest as actions
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db(transaction=True)
_registry, fake, house = actions._registry, actions.fake, actions.house


def confirm(page, person) -> None:
    page.get_by_label("Code").fill(people.totp_code(person))
    with page.expect_navigation():
        page.keyboard.press("Enter")


def test_the_kill_switch_stops_an_agent_and_says_when_it_holds(house, signed_in_page, assert_clean):
    erin, agent = house.cast.erin, builders.agent(house.cast)
    text = builders.token(house.cast, agent).text.reveal().decode()
    owner = signed_in_page(house.cast.alice)
    owner.goto("/agents/refund-bot/")
    page = signed_in_page(erin)
    page.goto("/agents/refund-bot/")

    page.get_by_role("link", name="Suspend…").press("Enter")
    page.get_by_label("Reason").fill("It calls hosts that nobody named.")
    page.get_by_role("button", name="Suspend refund-bot…").press("Enter")
    expect(page.get_by_role("heading", name="Suspend refund-bot")).to_be_visible()
    assert Agent.objects.get().state == "active", "nothing is done before the code"
    confirm(page, erin)

    expect(page.get_by_role("status").filter(has_text="refund-bot is suspended.")).to_be_visible()
    expect(page.get_by_text("No gateway is running.")).to_be_visible()
    assert_clean(page)
    with pytest.raises(tokens.BadToken):
        tokens.authenticate(text, now=house.now)
    # The page that its owner has open follows by itself, and offers nothing they may not do.
    expect(owner.locator(".page-head").get_by_text("Suspended", exact=True)).to_be_visible()
    expect(owner.get_by_role("link", name="Resume…")).to_have_count(0)


def test_a_secret_is_shown_once_and_not_on_the_way_back(house, signed_in_page, assert_clean):
    alice = house.cast.alice
    builders.agent(house.cast)
    page = signed_in_page(alice)
    page.goto("/agents/refund-bot/authentication/")

    page.get_by_role("link", name="Client secret…").click()
    page.get_by_role("button", name="Make it…").click()
    confirm(page, alice)

    secret = page.locator("#client-secret").text_content()
    assert secret.startswith("kvs_")
    assert_clean(page)
    page.get_by_role("link", name="Done").click()
    expect(page.locator("#client-secret")).to_have_count(0)
    assert secret not in page.content()


def test_the_column_beside_the_form_follows_what_is_chosen(house, signed_in_page, assert_clean):
    builders.agent(house.cast, reads_outside_text=True)
    house.pull()
    page = signed_in_page(house.cast.alice)
    page.goto("/keys/ledger-reader/access/")

    page.locator("main .card-h").get_by_role("link", name="Let an agent use it").click()
    aside = page.locator("#deciders")
    expect(aside.get_by_text("Reads outside text")).to_be_visible()
    page.get_by_label("Agent", exact=True).select_option("team:payments")

    expect(aside.get_by_text("A whole team")).to_be_visible()
    assert_clean(page)
    page.get_by_label("Reason").fill("It pays refunds.")
    page.get_by_role("button", name="Send for approval").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("ledger-reader")


def test_an_agent_that_nobody_answers_for_gets_an_owner(house, signed_in_page, judged):
    cast = house.cast
    builders.agent(cast, backup_owner=None)
    with transaction.atomic():
        accounts.deactivate(user=cast.alice, now=house.now, actor=builders.TESTS)
    page = signed_in_page(cast.frank)
    page.goto("/agents/refund-bot/")
    expect(page.get_by_text("Nobody who is active answers for this agent.")).to_be_visible()
    judged(page, "agent-orphan")

    page.get_by_role("link", name="No living owner").press("Enter")
    expect(page.get_by_text("Alice is deactivated, and there is no backup owner")).to_be_visible()
    judged(page, "agent-owner-orphan")
    page.get_by_label("Owner", exact=True).select_option(label="Carol (carol)")
    page.get_by_label("Backup owner").select_option(label="Erin (erin)")
    page.get_by_label("Reason").fill("Alice has left, Carol runs it now.")
    page.get_by_role("button", name="Send for approval").press("Enter")

    expect(page.get_by_role("heading", level=1)).to_contain_text("Carol answers for refund-bot")
    judged(page, "agent-owner-request")
    reader = signed_in_page(cast.carol)
    reader.goto(page.url)
    expect(reader.get_by_text("The policy keeps the new owner of this")).to_be_visible()


def test_without_scripts_an_agent_is_registered_and_stopped(house, signed_in_page):
    alice = house.cast.alice
    page = signed_in_page(alice, java_script_enabled=False)
    page.goto("/agents/")
    page.get_by_role("link", name="Register an agent").first.click()
    page.get_by_label("Name", exact=True).fill("web-scout")
    page.get_by_label("Purpose").fill("Reads the news.")
    page.get_by_role("button", name="Register it").click()

    expect(page.get_by_text("It may use no key yet.")).to_be_visible()
    page.get_by_role("link", name="Suspend…").click()
    page.get_by_label("Reason").fill("Not today.")
    page.get_by_role("button", name="Suspend web-scout…").click()
    confirm(page, alice)

    expect(page.get_by_text("web-scout is suspended.")).to_be_visible()
    assert Agent.objects.get().state == "suspended"
