"""Every state of the gallery and every error page, in both themes and widths."""

import pytest
from django.conf import settings as django_settings

STATES = ("components", "usage", "no-usage")


@pytest.fixture(autouse=True)
def _gallery(settings):
    settings.ROOT_URLCONF = "tests.browser.gallery"
    gallery = {**django_settings.TEMPLATES[0]}
    gallery["DIRS"] = [*gallery["DIRS"], django_settings.ROOT / "tests/browser/templates"]
    settings.TEMPLATES = [gallery]


@pytest.mark.parametrize("state", STATES)
def test_a_state_is_clean(new_context, judged, cast, state):
    page = new_context().new_page()

    page.goto(f"/__states__/{state}/")

    judged(page, state)
