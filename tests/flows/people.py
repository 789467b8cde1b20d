"""People at browsers, for flows over a running stack: they read pages and press buttons."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.harness import SIZES, Watch, shoot
from tests.servers import Stack

WAIT_MS = 60_000


@dataclass
class Person:
    """One person with a browser of their own, and the codes of their authenticator."""

    name: str
    page: Page
    stack_url: str
    code: Callable[[], str]
    watch: Watch

    def go(self, path: str) -> None:
        """Open an address of the console."""
        self.page.goto(self.stack_url + path)

    def confirm(self) -> None:
        """Enter a fresh code on the step-up page."""
        shoot(self.page, "step-up")
        self.page.get_by_role("textbox", name="Code").fill(self.code())
        with self.page.expect_navigation():
            self.page.locator("form:has(#id_otp_code) button[type=submit]").click()

    def decide(self, path: str, verdict: str, note: str = "") -> None:
        """Open a request, choose a decision, sign it with a code."""
        self.go(path)
        self.choose(verdict, note)
        self.confirm()

    def choose(self, verdict: str, note: str = "") -> None:
        """Choose a decision on the page that is open, and go on to the code."""
        self.page.locator(f"input[name=verdict][value={verdict}]").check()
        self.page.get_by_label("Note to requester").fill(note)
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=re.compile("^Sign decision")).click()

    def await_state(self, path: str, word: str, *, seconds: int = 60) -> None:
        """Reload a page until its head shows a state."""
        until = time.monotonic() + seconds
        badge = self.page.locator(".page-head .badge", has_text=word)
        while True:
            self.go(path)
            if badge.count() or time.monotonic() > until:
                break
            time.sleep(0.5)
        expect(badge.first).to_be_visible(timeout=1_000)

    def path(self) -> str:
        """Return where this person's browser is, without the host."""
        return self.page.url.removeprefix(self.stack_url)


@dataclass
class Cast:
    """Whoever comes to this stack."""

    stack: Stack
    browser: Browser
    watch: Watch
    contexts: list[BrowserContext]

    def visitor(self, name: str, code: Callable[[], str], *, width: int = 1440) -> Person:
        """Open a browser for somebody who is not signed in."""
        context = self.browser.new_context(
            viewport={"width": width, "height": SIZES[width]},
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            accept_downloads=True,
        )
        context.set_default_timeout(WAIT_MS)
        self.watch.over(context)
        self.contexts.append(context)
        return Person(name, context.new_page(), self.stack.url, code, self.watch)

    def sign_in(self, name: str) -> Person:
        """Sign a person of the demo in, with password and code."""
        person = self.visitor(name, lambda: self.stack.code(name))
        person.go("/auth/login/")
        person.page.get_by_label("User name").fill(name)
        person.page.get_by_label("Password").fill(self.stack.people()[name]["password"])
        person.page.get_by_role("button", name="Sign in", exact=True).click()
        person.page.get_by_role("textbox", name="Code").fill(person.code())
        person.page.get_by_role("button", name="Verify").click()
        expect(person.page.get_by_role("heading", level=1)).to_be_visible()
        return person


@contextmanager
def at_browsers(stack: Stack, browser: Browser) -> Iterator[Cast]:
    """Let people come to a stack, each with a browser of their own, and go home afterwards."""
    cast = Cast(stack, browser, Watch(), [])
    yield cast
    for context in cast.contexts:
        context.close()
