"""Fixtures of the browser tests: one Chromium a session, one fresh context a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page

from keyvault.accounts.models import User
from tests import cast as people
from tests.browser import harness


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and "live_server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session", autouse=True)
def _static_root() -> None:
    """Make the directory that WhiteNoise expects; the live server reads the sources instead."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def watch() -> harness.Watch:
    """Return what collects the complaints of this test's pages."""
    return harness.Watch()


@pytest.fixture
def new_context(
    browser: Browser, watch: harness.Watch, live_server
) -> Iterator[Callable[..., BrowserContext]]:
    """Return a function that opens a fresh context: `new_context(theme="dark", width=390)`."""
    opened: list[BrowserContext] = []

    def start(*, theme: str = "light", width: int = 1440, **options) -> BrowserContext:
        context = browser.new_context(
            base_url=live_server.url,
            color_scheme=theme,
            viewport={"width": width, "height": harness.SIZES.get(width, 800)},
            reduced_motion="reduce",
            locale="en-GB",
            timezone_id="UTC",
            **options,
        )
        watch.over(context)
        opened.append(context)
        return context

    yield start
    for context in opened:
        context.close()


@pytest.fixture
def signed_in_page(new_context, live_server) -> Callable[..., Page]:
    """Return a function that opens a page with a verified session of a person."""

    def start(person: User, **options) -> Page:
        client = people.sign_in(Client(), person)
        context = new_context(**options)
        context.add_cookies(
            [
                {
                    "name": settings.SESSION_COOKIE_NAME,
                    "value": client.cookies[settings.SESSION_COOKIE_NAME].value,
                    "url": live_server.url,
                }
            ]
        )
        return context.new_page()

    return start


@pytest.fixture
def assert_clean(watch: harness.Watch) -> Callable[[Page], None]:
    """Return the judgement over a page: axe, console, content policy and sideways scrolling."""
    return lambda page: harness.assert_clean(page, watch)


@pytest.fixture
def judged(watch: harness.Watch) -> Callable[[Page, str], None]:
    """Return the judgement over a page in every theme and width: `judged(page, "login")`."""

    def judge(page: Page, name: str) -> None:
        assert harness.faults(page, watch, name) == []

    return judge
