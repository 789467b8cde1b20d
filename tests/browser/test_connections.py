"""Connections in a real browser: clean in both themes and widths, and never the credential."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from playwright.sync_api import expect

from keyvault.connections import renewals
from keyvault.connections.models import Connection, Renewal
from tests.browser.harness import assert_clean
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.connections.conftest import _registry, with_credential  # noqa: F401
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
HELD = (
    "The provider does not say which admin credential it takes, <b>however</b> often it is asked."
)
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


@pytest.fixture
def renewed(where, now):
    """A Connection whose admin credential was renewed once, and whose second renewal is held."""
    fakes.install(fakes.Renews())
    Connection.objects.update(credential_at=now - timedelta(days=31), renew_days=30)
    for sentence in ("", HELD):
        with transaction.atomic():
            made = renewals.begin(
                connection_id=where.pk,
                request_id=uuid4(),
                started_by="Frank Adeyemi with quite a long name, as some people have",
                actor=WORKER,
                now=now,
            )
            if sentence:
                renewals.hold(made, sentence, now=now)
            else:
                Renewal.objects.update(state="done", ended_at=now, in_use_at=now)
    return where


@pytest.mark.parametrize("state", ["planned", "calling", "in_use", "at_work"])
def test_a_renewal_in_each_state_is_clean(renewed, cast, signed_in_page, judged, state):
    open_one = Renewal.objects.filter(ended_at=None)
    if state == "at_work":
        open_one.update(held_at=None, sentence="")
    else:
        open_one.update(state=state, calls=int(state == "calling"))
    page = signed_in_page(cast.frank)

    page.goto("/connections/orders/")

    judged(page, f"connections-renewal-{state}")


def test_asking_for_a_renewal_is_clean(renewed, cast, signed_in_page, judged):
    Renewal.objects.all().delete()
    page = signed_in_page(cast.frank)

    page.goto("/connections/orders/")
    page.get_by_role("link", name="Renew now").click()

    judged(page, "connections-renew")


def test_an_error_keeps_what_was_typed_and_empties_the_credential(
    where, cast, signed_in_page, watch
):
    page = signed_in_page(cast.frank)
    page.goto("/connections/new/?provider=fake")
    page.get_by_label("Title").fill("Billing")
    page.get_by_label("Admin password").fill("typed-canary")
    watch.expect("422")
    page.get_by_role("button", name="Ask for approval").last.click()

    expect(page.locator("#error-summary")).to_be_visible()
    expect(page.get_by_label("Title")).to_have_value("Billing")
    expect(page.get_by_label("Admin password")).to_have_value("")
    assert "typed-canary" not in page.content()
    assert_clean(page, watch)
