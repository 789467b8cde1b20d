"""The pages of rotations in a real browser: every state, both themes, both widths, no scripts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from playwright.sync_api import expect

from approvals.ports import Subject
from keyvault.dependents import services as dependents
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory.models import Key
from keyvault.rotation.models import ENDED, Delivery, Rotation
from keyvault.vault.models import Version
from tests import cast as people
from tests.browser.scenes import HOSTILE
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = {
    "rotations": "/rotations/",
    "rotations-none": "/rotations/?state=held&page=9",
    "rotation-key": "/keys/ledger-reader/",
    "rotation-key-versions": "/keys/ledger-reader/versions/",
    "rotation-key-dependents": "/keys/ledger-reader/dependents/",
    "rotation-key-dependents-none": "/keys/quiet-key/dependents/",
    "rotation-dependent-new": "/keys/ledger-reader/dependents/new/",
    "rotation-ask": "/keys/quiet-key/rotate/",
    "rotation-strip": "/",
}


def rotation(key, now, state, *, sentence="", **facts):
    return Rotation.objects.create(
        key=key,
        request_id=key.request_id,
        trigger=facts.pop("trigger", "manual"),
        reason="The quarter is over.",
        started_by="Alice Moreau",
        state=state,
        held_from="promoting" if state == "held" else "",
        sentence=sentence,
        since=now - timedelta(minutes=4),
        created_at=now - timedelta(minutes=30),
        promoted_at=now - timedelta(minutes=20),
        ended_at=now if state in ENDED else None,
        terms={"grace_s": 86400, "quiet_s": 300, "overlap_s": 60},
        **facts,
    )


@pytest.fixture
def busy(cast, now):
    """A key whose rotation runs with dependents in each state, and others before and beside it."""
    rules.DEFAULTS.put(now)
    key = keys.live(cast, delivery_mode="pull", now=now - timedelta(days=20))
    quiet = keys.live(cast, name="quiet-key", now=now - timedelta(days=20))
    old = rows.live_version(key, key.request_id, now - timedelta(days=20), remote_id="r1")
    new = rows.live_version(key, key.request_id, now, "another-value", remote_id="r2" * 30)
    rows.live_version(quiet, quiet.request_id, now, "third-value", remote_id="r3")
    by_hand = keys.connection(cast, "console", provider="manual")
    for number in range(7):
        one = keys.live(cast, name=f"by-hand-{number}", now=now - timedelta(days=5))
        Key.objects.filter(pk=one.pk).update(
            connection=by_hand, rotation_due_at=now + timedelta(days=number * 9 + 2)
        )
    rotation(key, now, "completed", trigger="cadence")
    open_one = rotation(key, now, "promoting", old_id=old.pk, new_id=new.pk)
    for number, state in enumerate(
        ("waiting", "writing", "restarting", "confirmed", "failed", "excused")
    ):
        name = "x" * 47 if state == "failed" else f"user-of-it-{number}"
        bot = agents.agent(cast, name)
        agents.granted(cast, bot, key)
        with transaction.atomic():
            row = dependents.register(
                key=key,
                name=name,
                agent_id=bot.pk,
                health="reports",
                now=now,
                actor=agents.TESTS,
                cache_s=number * 30,
            )
        Delivery.objects.create(
            rotation=open_one,
            dependent=row,
            wave=0,
            state=state,
            has_new=state != "waiting",
            note=HOSTILE if state == "excused" else "",
            given_at=None if state == "waiting" else now - timedelta(minutes=20),
            confirmed_at=now - timedelta(minutes=8) if state == "confirmed" else None,
        )
    with transaction.atomic():
        hand = dependents.register(
            key=key, name="Report server " + "y" * 60, health="by_hand", now=now,
            actor=agents.TESTS,
        )  # fmt: skip
    Delivery.objects.create(
        rotation=open_one, dependent=hand, wave=0, state="restarting", has_new=True, given_at=now
    )
    agents.granted(cast, agents.agent(cast, "web-scout"), key)
    held = rotation(quiet, now, "held", sentence=HOSTILE)
    findings.open(
        kind=FindingKind.ROTATION,
        subject=Subject("key", str(quiet.pk), quiet.name),
        detail=str(held.pk),
        sentence=HOSTILE,
        now=now,
    )
    return open_one


def test_the_pages_of_rotations_are_clean(busy, cast, signed_in_page, judged):
    page = signed_in_page(cast.alice)

    for name, address in PAGES.items():
        page.goto(address)
        judged(page, name)
    page.goto(f"/rotations/{busy.pk}/")
    judged(page, "rotation-board")
    page.get_by_role("link", name="Skip… user-of-it-2").click()
    judged(page, "rotation-skip-form")


def test_a_brown_out_shows_what_is_switched_off_and_who_failed(busy, cast, signed_in_page, judged):
    Version.objects.filter(pk=busy.old_id).update(suspended_at=busy.created_at)
    terms = busy.terms | {"brownout_s": 600}
    Rotation.objects.filter(pk=busy.pk).update(state="brownout", misses=1, terms=terms)
    page = signed_in_page(cast.alice)

    page.goto(f"/rotations/{busy.pk}/")

    expect(page.locator(".page-head").get_by_text("Brown-out")).to_be_visible()
    expect(page.get_by_role("row", name="v1").get_by_text("Switched off")).to_be_visible()
    expect(page.get_by_text("Failed without it")).to_be_visible()
    judged(page, "rotation-brownout")


def test_an_auditor_reads_a_rotation_and_decides_nothing(busy, cast, signed_in_page, judged):
    page = signed_in_page(cast.dave)

    page.goto(f"/rotations/{busy.pk}/")

    expect(page.get_by_text("1 min").or_(page.get_by_text("Facts")).first).to_be_visible()
    expect(page.locator("#main form")).to_have_count(0)
    judged(page, "rotation-board-auditor")


def test_without_scripts_a_dependent_is_skipped_with_a_reason_and_a_code(
    busy, cast, signed_in_page
):
    page = signed_in_page(cast.alice, java_script_enabled=False)
    page.goto(f"/rotations/{busy.pk}/")
    page.get_by_role("link", name="Skip… user-of-it-2").click()
    page.get_by_role("button", name="Skip it…").click()
    expect(page.get_by_text("This field is required.").first).to_be_visible()
    page.get_by_label("Reason").fill("It is switched off for good.")
    page.get_by_role("button", name="Skip it…").click()
    page.get_by_label("Code").fill(people.totp_code(cast.alice))
    page.locator("main button[type=submit]").click()

    expect(page.get_by_text("The rotation does not wait for user-of-it-2.")).to_be_visible()
    row = Delivery.objects.get(dependent__name="user-of-it-2")
    assert (row.state, row.note) == ("excused", "It is switched off for good.")
