"""Connections in a real browser: clean in both themes and widths, and never the credential."""

from __future__ import annotations

import pytest

from keyvault.connections.models import Connection
from tests.browser.harness import assert_clean
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.connections.conftest import _registry, with_credential  # noqa: F401
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)
PROBLEM = {
    "sentence": "The admin role may not create roles.",
    "mend": "GRANT it CREATEROLE.",
    "is_fatal": True,
}


@pytest.fixture
def where(cast, now, _registry):  # noqa: F811
    rules.DEFAULTS.put(now)
    fakes.install(fakes.Fake())
    connection = with_credential(rows.connection(cast, provider="fake"), now)
    Connection.objects.update(
        title="Orders with quite a long name, as people give them, and a little more",
        config={"host": "db.example.com", "user": "kv_admin"},
        allowed_hosts=["10.1.2.3:5432"],
        credential_fingerprint="ab12" * 16,
        checked_at=now,
        problems=[PROBLEM],
    )
    return connection


def test_every_page_is_clean(where, cast, signed_in_page, judged):
    page = signed_in_page(cast.frank)

    for name, path in {
        "list": "/connections/",
        "detail": "/connections/orders/",
        "choose": "/connections/new/",
        "form": "/connections/new/?provider=postgresql",
        "change": "/connections/orders/edit/",
    }.items():
        page.goto(path)
        judged(page, f"connections-{name}")


def test_an_error_keeps_what_was_typed_and_empties_the_credential(
    where, cast, signed_in_page, watch
):
    page = signed_in_page(cast.frank)
    page.goto("/connections/new/?provider=fake")
    page.get_by_label("Title").fill("Billing")
    page.get_by_label("Admin password").fill("typed-canary")
    watch.expect("422")
    page.get_by_role("button", name="Ask for approval").last.click()

    assert page.get_by_label("Title").input_value() == "Billing"
    assert page.get_by_label("Admin password").input_value() == ""
    assert "typed-canary" not in page.content()
    assert_clean(page, watch)
