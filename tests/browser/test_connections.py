"""Connections in a real browser: clean in both themes and widths, and never the credential."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from playwright.sync_api import expect

from approvals.ports import Subject
from keyvault.connections import renewals
from keyvault.connections.models import Connection, Renewal, Trial
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
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


STEPS = ["check", "prepare", "create", "validate", "find", "revoke", "refuse", "gone"]
LONG = (
    "The provider does not accept <b>the new credential</b> of " + "x" * 60 + ", whatever is sent."
)


@pytest.fixture
def tried(where, now):
    """A function that makes a test run of the Connection with these steps, in this state."""

    def make(state, outcomes, *, at=now, left=""):
        return Trial.objects.create(
            connection=where,
            request_id=uuid4(),
            started_by="Frank Adeyemi with quite a long name, as some people have",
            state=state,
            tags=[f"kv-{'ab' * 16}-1"],
            steps=[
                {
                    "step": step,
                    "outcome": outcome,
                    "sentence": "" if outcome == "ok" else LONG,
                    "at": at.isoformat(),
                }
                for step, outcome in outcomes
            ],
            sentence=LONG if state == "failed" else "A throwaway credential was made and ended.",
            left_behind=left,
            created_at=at,
            ended_at=None if state in {"planned", "calling"} else at,
        )

    return make


def all_ok():
    return [(step, "ok") for step in STEPS]


RUNS = {
    "planned": ("planned", [], ""),
    "calling": ("calling", [("create", "again"), ("clean", "ok"), *all_ok()[:4]], ""),
    "passed": ("passed", all_ok(), ""),
    "failed": ("failed", [*all_ok()[:3], ("validate", "failed"), ("clean", "ok")], ""),
    "left": ("failed", [*all_ok()[:5], ("revoke", "failed")], "keyvault_test_a/kv-" + "ab" * 16),
}


@pytest.mark.parametrize("run", RUNS)
def test_a_test_run_in_each_state_is_clean(tried, where, cast, now, signed_in_page, judged, run):
    state, outcomes, left = RUNS[run]
    tried("passed", all_ok(), at=now - timedelta(days=40))
    tried("failed", all_ok()[:1], at=now - timedelta(days=2))
    tried(state, outcomes, left=left)
    if left:
        with transaction.atomic():
            findings.open(
                kind=FindingKind.ORPHAN,
                subject=Subject("connection", str(where.pk), where.slug),
                detail=left,
                sentence=f"A test run may have left {left} behind.",
                now=now,
            )
    page = signed_in_page(cast.frank)

    page.goto("/connections/orders/")

    judged(page, f"connections-trial-{run}")


def test_asking_for_a_test_run_is_clean(where, cast, signed_in_page, judged):
    Connection.objects.update(provider="postgresql")
    page = signed_in_page(cast.frank)

    page.goto("/connections/orders/")
    judged(page, "connections-trial-none")
    page.get_by_role("link", name="Test run…").click()

    expect(page.get_by_label("Login name")).to_have_value("keyvault_test")
    judged(page, "connections-try")


def test_a_test_run_is_asked_for_by_keyboard_alone(where, cast, signed_in_page, watch):
    page = signed_in_page(cast.frank)
    page.goto("/connections/orders/")
    page.get_by_role("link", name="Test run…").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("Test run of")
    page.get_by_label("Reason").focus()
    page.keyboard.type("Before the first key.")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", level=1)).to_contain_text("Try the Connection orders")
    assert_clean(page, watch)


def test_its_steps_appear_by_themselves_and_after_a_reload(tried, cast, now, signed_in_page, watch):
    run = tried("calling", all_ok()[:2])
    page = signed_in_page(cast.frank)
    page.goto("/connections/orders/")
    expect(page.locator("#tests")).to_contain_text("A test run is under way")

    Trial.objects.filter(pk=run.pk).update(
        state="passed", ended_at=now, steps=run.steps * 4, sentence="It was made and ended."
    )

    expect(page.locator("#tests")).to_contain_text("It was made and ended.", timeout=20_000)
    page.reload()
    expect(page.locator("#tests")).to_contain_text("It was made and ended.")
    assert_clean(page, watch)
