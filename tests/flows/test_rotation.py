"""One rotation of a real PostgreSQL role, followed in a browser that never reloads, to its end.

Alice has her key rotated; a consumer moves by itself and she says that the
report server has. The old password ends when both have. A second rotation is
held because nobody moves, and she leads everybody back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from keyvault.client.values import Value
from tests.browser.harness import faults, shoot
from tests.flows.people import Cast, Person, at_browsers
from tests.flows.rotating import (
    KEY,
    WAIT_MS,
    consumers,
    fetched,
    head,
    lane,
    logs_in,
    rotate,
    stay,
    stayed,
)
from tests.servers import Stack, free_port

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SERVER = "Report server"
# Nobody is too late by themselves while the test reads; the old version need be silent shortly.
TERMS = {"KEYVAULT_ROTATION_GRACE_SECONDS": "3600", "KEYVAULT_ROTATION_QUIET_SECONDS": "1"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A demo whose rotations wait for a second of silence only."""
    root = tmp_path_factory.mktemp("rotating")
    running = Stack(root / "data", root / "keys", free_port(), ("--demo",), TERMS)
    yield running.start()
    running.stop()


@pytest.fixture(scope="module")
def consumer(stack: Stack) -> dict[str, str]:
    """Name and secret of an agent that uses the key and reports its version."""
    [found] = consumers(stack, 1)
    return found


@pytest.fixture
def people(stack: Stack, browser: Browser) -> Iterator[Cast]:
    with at_browsers(stack, browser) as cast:
        yield cast


def too_late(stack: Stack) -> None:
    """Let the grace of the open rotation pass, by the database's clock."""
    with stack.sql() as link:
        link.execute(
            "UPDATE keyvault_rotation SET since = since - interval '2 hours'"
            " WHERE state = 'promoting'"
        )
        link.execute(
            "UPDATE approvals_job SET due_at = now() WHERE kind = 'rotation.step' AND state = 'ready'"
        )


def register_server(alice: Person) -> None:
    """Have rotations wait for a place that no program can see."""
    page = alice.page
    alice.go(f"/keys/{KEY}/dependents/")
    page.get_by_role("link", name="Register one").click()
    page.get_by_role("textbox", name="Name").fill(SERVER)
    page.get_by_label("A person says so").check()
    shoot(page, "rotation-register")
    page.get_by_role("button", name="Register it").click()
    expect(page.get_by_text(f"The next rotation waits for {SERVER}.")).to_be_visible()


def moved(alice: Person, stack: Stack, consumer: dict[str, str]) -> Value:
    """Let the consumer take the new version, and see it on the page that is open."""
    stay(alice)
    value = fetched(stack, consumer, says=True)
    expect(lane(alice, "consumer-0").get_by_text(f"On v{value.version}")).to_be_visible(
        timeout=WAIT_MS
    )
    assert stayed(alice), "the page was loaded anew"
    return value


def test_a_rotation_is_followed_live_to_its_end(people: Cast, stack: Stack, consumer):
    first = fetched(stack, consumer, says=True)
    assert logs_in(first)
    alice = people.sign_in("alice")
    register_server(alice)
    assert faults(alice.page, people.watch, "rotation-dependents") == []

    rotate(alice)
    head(alice, "Rolling out")
    expect(lane(alice, "consumer-0").get_by_text("Restarting")).to_be_visible(timeout=WAIT_MS)
    assert faults(alice.page, people.watch, "rotation-rolling-out") == []
    why = alice.page.locator("#why-back")
    why.fill("half typed")
    second = moved(alice, stack, consumer)
    expect(why).to_have_value("half typed")
    assert second.version > first.version
    assert logs_in(first)
    assert logs_in(second)

    lane(alice, SERVER).get_by_role("button", name="It has moved").click()
    stay(alice)
    head(alice, "Done")
    assert stayed(alice), "the page was loaded anew"
    expect(alice.page.get_by_role("heading", name="Decide")).to_have_count(0)
    assert not logs_in(first)
    assert logs_in(second)
    assert faults(alice.page, people.watch, "rotation-done") == []
    alice.go(f"/keys/{KEY}/versions/")
    expect(alice.page.locator("#rotations").get_by_text("Done")).to_be_visible()
    assert faults(alice.page, people.watch, "rotation-history") == []


def judged_while_held(alice: Person, dave: Person, people: Cast) -> None:
    """Look at a held rotation as its owner, as an auditor, and from the overview."""
    expect(alice.page.get_by_role("heading", name="A person decides")).to_be_visible()
    assert faults(alice.page, people.watch, "rotation-held") == []
    dave.go(alice.path())
    expect(dave.page.get_by_text("Held", exact=True).first).to_be_visible()
    expect(dave.page.get_by_role("button", name="Roll back")).to_have_count(0)
    assert faults(dave.page, people.watch, "rotation-held-auditor") == []
    alice.go("/")
    item = alice.page.get_by_role("link", name=f"The rotation of {KEY} needs a person", exact=True)
    expect(item).to_be_visible()
    assert faults(alice.page, people.watch, "rotation-overview") == []
    item.click()


def test_a_rotation_that_nobody_follows_is_held_and_led_back(people: Cast, stack: Stack, consumer):
    alice, dave = people.sign_in("alice"), people.sign_in("dave")
    before = fetched(stack, consumer, says=True)
    rotate(alice)
    stay(alice)
    head(alice, "Rolling out")
    too_late(stack)
    head(alice, "Held")
    assert stayed(alice), "the page was loaded anew"
    held = alice.path()
    judged_while_held(alice, dave, people)
    lane(alice, "consumer-0").get_by_role("link", name="Skip").click()
    assert faults(alice.page, people.watch, "rotation-skip") == []
    alice.page.get_by_role("link", name="Keep waiting").click()

    back = alice.page.locator("form", has=alice.page.get_by_role("button", name="Roll back"))
    back.get_by_role("textbox").fill("The consumer is being rebuilt.")
    back.get_by_role("button", name="Roll back").click()
    stay(alice)
    head(alice, "Rolled back")
    assert stayed(alice), "the page was loaded anew"
    assert alice.path() == held
    after = fetched(stack, consumer, says=True)
    assert after.version == before.version
    assert logs_in(after)
    badge = dave.page.locator(".page-head .badge", has_text="Rolled back")
    expect(badge).to_be_visible(timeout=WAIT_MS)
