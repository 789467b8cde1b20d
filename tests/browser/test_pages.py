"""Every page of the console, in both themes and widths: axe, console, content policy, reflow."""

from __future__ import annotations

import pytest
from django.urls import reverse

from tests.approvals.conftest import house, world
from tests.browser import harness, scenes

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db(transaction=True)

PAGES = {
    "overview": ("frank", lambda scene: reverse("overview")),
    "overview-owner": ("alice", lambda scene: reverse("overview")),
    "overview-approver": ("bob", lambda scene: reverse("overview")),
    "overview-auditor": ("dave", lambda scene: reverse("overview")),
    "system": ("frank", lambda scene: reverse("system")),
    "approvals": ("bob", lambda scene: reverse("approvals")),
    "request-decide": ("carol", lambda scene: reverse("request", args=[scene.waiting.pk])),
    "request-mine": ("alice", lambda scene: reverse("request", args=[scene.returned.pk])),
    "request-done": ("alice", lambda scene: reverse("request", args=[scene.done.pk])),
    "requests": ("alice", lambda scene: reverse("requests")),
    "search": ("alice", lambda scene: reverse("search") + "?q=key"),
    "keys": ("alice", lambda scene: reverse("keys")),
    "keys-filtered-empty": ("alice", lambda scene: reverse("keys") + "?q=nothing-like-it"),
    "key": ("alice", lambda scene: reverse("key", args=[scene.key.name])),
    "key-long": ("alice", lambda scene: reverse("key", args=[scenes.LONG_NAME])),
    "request-new": ("alice", lambda scene: reverse("request-new")),
    "connections": ("frank", lambda scene: reverse("connections")),
    "people": ("frank", lambda scene: reverse("people")),
    "person": ("frank", lambda scene: reverse("person", args=[scene.house.cast.alice.pk])),
    "audit": ("dave", lambda scene: reverse("audit")),
    "account": ("alice", lambda scene: reverse("account")),
}
EMPTY = {
    name: PAGES[name]
    for name in (
        "overview",
        "overview-owner",
        "system",
        "approvals",
        "requests",
        "keys",
        "connections",
        "people",
        "audit",
    )
}


def _look(page, address, name):
    """Open a page at both widths in the theme of its context, and judge both."""
    page.goto(address)
    for width, height in harness.SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_load_state("networkidle")
        harness.shoot(page, f"{name}-{width}")
        yield


@pytest.mark.parametrize("theme", harness.THEMES)
@pytest.mark.parametrize("name", PAGES)
def test_a_busy_page_is_clean(house, signed_in_page, assert_clean, name, theme):
    scene = scenes.busy(house)
    person, address = PAGES[name]
    page = signed_in_page(getattr(house.cast, person), theme=theme)

    for _ in _look(page, address(scene), f"{name}-{theme}"):
        assert_clean(page)


@pytest.mark.parametrize("name", EMPTY)
def test_an_empty_page_is_clean(house, signed_in_page, assert_clean, name):
    person, address = EMPTY[name]
    page = signed_in_page(getattr(house.cast, person))

    for _ in _look(page, address(None), f"{name}-empty-light"):
        assert_clean(page)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reflows_at_320_pixels(house, signed_in_page, name):
    scene = scenes.busy(house)
    person, address = PAGES[name]
    page = signed_in_page(getattr(house.cast, person), width=320)

    page.goto(address(scene))

    assert harness.overflow(page) == []
