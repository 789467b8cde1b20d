"""Every state of the gallery and every error page, in both themes and widths."""

import pytest
from django.conf import settings as django_settings

from tests.browser import harness

STATES = ("components", "usage", "no-usage")


@pytest.fixture(autouse=True)
def _gallery(settings):
    settings.ROOT_URLCONF = "tests.browser.gallery"
    gallery = {**django_settings.TEMPLATES[0]}
    gallery["DIRS"] = [*gallery["DIRS"], django_settings.ROOT / "tests/browser/templates"]
    settings.TEMPLATES = [gallery]


@pytest.mark.parametrize("width", harness.SIZES)
@pytest.mark.parametrize("theme", harness.THEMES)
@pytest.mark.parametrize("state", STATES)
def test_a_state_is_clean(new_context, assert_clean, cast, state, theme, width):
    page = new_context(theme=theme, width=width).new_page()

    page.goto(f"/__states__/{state}/")

    harness.shoot(page, f"{state}-{theme}-{width}")
    assert_clean(page)


@pytest.mark.parametrize("state", STATES)
def test_a_state_reflows_at_320_pixels(new_context, assert_clean, cast, state):
    page = new_context(width=320).new_page()

    page.goto(f"/__states__/{state}/")

    assert_clean(page)
