"""A rotation that is held and resumed, followed in a browser that never reloads.

Nobody moves within the grace, so it is held. Once a person gives it more time,
and the dependent moves in that; once the dependent comes back by itself.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from keyvault.client.values import Value
from tests.browser.harness import faults
from tests.flows.people import Person, at_browsers
from tests.flows.rotating import KEY, consumers, fetched, head, lane, logs_in, rotate, stay, stayed
from tests.servers import Stack

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def consumer(impatient_stack: Stack) -> dict[str, str]:
    """Name and secret of an agent that uses the key and reports its version."""
    [found] = consumers(impatient_stack, 1)
    return found


@pytest.fixture
def alice(impatient_stack: Stack, browser: Browser) -> Iterator[Person]:
    with at_browsers(impatient_stack, browser) as cast:
        yield cast.sign_in("alice")


@pytest.fixture
def before(impatient_stack: Stack, consumer: dict[str, str]) -> Value:
    """Return the version that the consumer uses when the test begins."""
    return fetched(impatient_stack, consumer, says=True)


def held(alice: Person) -> None:
    """Have the key rotated, and see the rotation held on the page that is open."""
    rotate(alice)
    stay(alice)
    head(alice, "Held")
    assert stayed(alice), "the page was loaded anew"
    expect(alice.page.get_by_role("heading", name="A person decides")).to_be_visible()
    expect(alice.page.get_by_text("consumer-0 did not confirm the new version")).to_be_visible()


def try_on(alice: Person, why: str) -> None:
    """Give the rotation that is held more time."""
    box = alice.page.locator("form", has=alice.page.get_by_role("button", name="Try on"))
    box.get_by_role("textbox").fill(why)
    box.get_by_role("button", name="Try on").click()


def completed(alice: Person, before: Value, after: Value) -> None:
    """See the rotation done on the page that is open, and only the new version let in."""
    head(alice, "Done")
    assert stayed(alice), "the page was loaded anew"
    expect(lane(alice, "consumer-0").get_by_text(f"On v{after.version}")).to_be_visible()
    expect(alice.page.get_by_text("did not confirm")).to_have_count(0)
    assert after.version > before.version
    assert logs_in(after)
    assert not logs_in(before)
    alice.go("/")
    needs = alice.page.get_by_role("link", name=f"The rotation of {KEY} needs a person")
    expect(needs).to_have_count(0)


def test_it_is_given_more_time_and_completes(alice, impatient_stack, consumer, before):
    held(alice)
    assert logs_in(before), "the old version works while it is held"
    assert faults(alice.page, alice.watch, "rotation-held-late") == []
    try_on(alice, "The consumer restarts.")
    head(alice, "Rolling out")
    stay(alice)

    after = fetched(impatient_stack, consumer, says=True)

    completed(alice, before, after)
    alice.page.go_back()
    expect(alice.page.get_by_text(f"chose for the rotation of {KEY}: extend")).to_be_visible()
    assert faults(alice.page, alice.watch, "rotation-resumed-done") == []


def test_it_goes_on_by_itself_when_the_dependent_comes_back(
    alice, impatient_stack, consumer, before
):
    held(alice)
    assert logs_in(before), "the old version works while it is held"

    after = fetched(impatient_stack, consumer, says=True)

    completed(alice, before, after)


def with_brownout(stack: Stack, seconds: int) -> None:
    """Have the open rotation switch the old version off for so long before it ends."""
    with stack.sql() as link:
        link.execute(
            "UPDATE keyvault_rotation SET terms = terms || jsonb_build_object('brownout_s', %s::int)"
            " WHERE ended_at IS NULL",
            [seconds],
        )


def test_whoever_fails_in_the_brown_out_has_the_old_version_back(
    alice, impatient_stack, consumer, before
):
    rotate(alice)
    stay(alice)
    head(alice, "Rolling out")
    with_brownout(impatient_stack, 600)
    after = fetched(impatient_stack, consumer, says=True)
    head(alice, "Brown-out")
    expect(alice.page.get_by_text("Switched off", exact=True)).to_be_visible()
    assert not logs_in(before)
    assert logs_in(after)

    fetched(impatient_stack, consumer, says=True, is_healthy=False)
    head(alice, "Held")
    assert stayed(alice), "the page was loaded anew"
    expect(alice.page.get_by_text("consumer-0 failed while the old version")).to_be_visible()
    assert logs_in(before)
    assert faults(alice.page, alice.watch, "rotation-brownout-held") == []

    fetched(impatient_stack, consumer, says=True)
    try_on(alice, "The consumer is mended.")
    head(alice, "Brown-out")
    stay(alice)
    with_brownout(impatient_stack, 1)
    completed(alice, before, after)


def test_it_rolls_back_by_itself_when_the_dependent_is_ill(
    alice, impatient_stack, consumer, before
):
    rotate(alice)
    stay(alice)
    head(alice, "Rolling out")
    after = fetched(impatient_stack, consumer, says=True, is_healthy=False)
    assert after.version > before.version
    head(alice, "Rolling back")
    expect(alice.page.get_by_text("consumer-0 is not well")).to_be_visible()

    again = fetched(impatient_stack, consumer, says=True)

    head(alice, "Rolled back")
    assert stayed(alice), "the page was loaded anew"
    assert faults(alice.page, alice.watch, "rotation-back-by-itself") == []
    assert again.version == before.version
    assert logs_in(before)
    assert not logs_in(after)
