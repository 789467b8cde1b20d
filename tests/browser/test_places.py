"""Places of a key in a real browser: clean in both themes and widths, asked for with the keyboard alone."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction
from playwright.sync_api import expect

from approvals.models import Request
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Push
from tests.browser.test_rotations import HOSTILE
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def laid(cast, now):
    """A key at a place that is well and at one that is not, and a destination with nothing."""
    rules.DEFAULTS.put(now)
    key = keys.live(cast, now=now)
    version = rows.live_version(key, key.request_id, now, remote_id="r1")
    bao = rows.connection(cast, provider="openbao", slug="bao", config={"address": "https://bao"})
    rows.connection(cast, provider="env_file", slug="files", config={"directory": "/srv/keys"})
    for number, name in enumerate(("Orders in OpenBao", "x" * 60)):
        with transaction.atomic():
            dependents.register_place(
                key=key, name=name, connection=bao, target={"path": f"apps/{number}"},
                wave=number, cache_s=0, request_id=uuid4(), now=now, actor=agents.TESTS,
            )  # fmt: skip
    rows_of = Dependent.objects.filter(key=key)
    rows_of.filter(wave=0).update(push=Push.THERE, live_id=version.pk, pushed_at=now)
    rows_of.filter(wave=1).update(push=Push.FAILED, push_note=HOSTILE)
    return key


def test_the_pages_of_places_are_clean(laid, cast, signed_in_page, judged):
    page = signed_in_page(cast.alice)
    row = Dependent.objects.get(wave=0)

    for name, path in {
        "dependents": f"/keys/{laid.name}/dependents/",
        "choose": f"/keys/{laid.name}/places/new/",
        "form": f"/keys/{laid.name}/places/new/?connection=files",
        "remove": f"/keys/{laid.name}/places/{row.pk}/remove/",
    }.items():
        page.goto(path)
        judged(page, f"places-{name}")


def test_what_a_check_of_a_place_has_found_is_clean(laid, cast, signed_in_page, judged):
    page = signed_in_page(cast.alice)
    page.goto(f"/keys/{laid.name}/places/new/?connection=files")
    page.get_by_label("File", exact=True).fill("orders.env")
    page.get_by_role("button", name="Check first").click()

    expect(page.get_by_role("heading", name="What the check found")).to_be_visible()
    judged(page, "places-checked")


def test_a_destination_shows_what_it_can_and_which_keys_lie_there(
    laid, cast, signed_in_page, judged
):
    page = signed_in_page(cast.frank)

    page.goto("/connections/bao/")

    expect(page.get_by_role("link", name=laid.name).first).to_be_visible()
    judged(page, "places-destination")


def test_a_place_is_asked_for_with_the_keyboard_alone(laid, cast, signed_in_page, watch):
    page = signed_in_page(cast.alice)
    page.goto(f"/keys/{laid.name}/places/new/")
    page.get_by_role("link", name="files", exact=False).first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name", exact=True).focus()
    watch.expect("422")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This field is required.").first).to_be_visible()

    for label, text in {
        "Name": "Orders file",
        "File": "orders.env",
        "Reason": "The batch job reads it.",
    }.items():
        page.get_by_label(label, exact=True).focus()
        page.keyboard.type(text)
    page.get_by_role("button", name="Send for approval").focus()
    watch.expect("422")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="What the check found")).to_be_visible()
    page.get_by_role("button", name="Send all the same").focus()
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="Write", exact=False).first).to_be_visible()
    asked = Request.objects.get(kind="place.add")
    assert asked.payload["target"]["file"] == "orders.env"
