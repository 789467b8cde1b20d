"""What a log line holds: one line, and nothing that a stranger sent."""

from __future__ import annotations

import io
import logging
import logging.config

import pytest
from django.conf import settings

from keyvault import logs
from tests.flows.canaries import leaks, plain


@pytest.fixture
def written():
    """Return a stream that holds what the installation's own handler would write."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Formatter())
    handler.addFilter(logs.Refusals())
    logger = logging.getLogger("django")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def test_the_handler_of_the_installation_drops_what_was_refused():
    assert settings.LOGGING["handlers"]["stderr"]["filters"] == ["refusals"]
    assert settings.LOGGING["filters"]["refusals"]["()"] == "keyvault.logs.Refusals"


def test_r9_a_strange_host_is_refused_without_being_quoted(client, written):
    canary = plain()
    assert client.get("/healthz", headers={"Host": f"{canary}.example"}).status_code == 400
    assert "refused: DisallowedHost" in written.getvalue()
    assert leaks(written.getvalue().encode(), [canary]) == []


def test_what_was_not_refused_keeps_its_text(written):
    logging.getLogger("django.request").warning("Not Found: %s", "/a\nb")
    assert written.getvalue().endswith("Not Found: /a\\nb\n")
