"""The pages of batches in a real browser: every state, both themes, both widths, live and no scripts."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction
from playwright.sync_api import expect

from approvals.models import Job
from keyvault.inventory.models import Key
from keyvault.rotation import batches
from keyvault.rotation.models import BatchKey, Rotation, RotationBatch
from tests.browser.scenes import HOSTILE
from tests.browser.test_rotations import rotation
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db(transaction=True)
STATES = ("completed", "promoting", "held", "rolled_back", "draining")


@pytest.fixture
def fleet(cast, now):
    """Twelve live keys of alice's, with names of every length."""
    rules.DEFAULTS.put(now)
    names = [f"agent-{number:02}" + "-xx" * number for number in range(12)]
    return [keys.live(cast, name=name, now=now - timedelta(days=20)) for name in names]


@pytest.fixture
def batch(cast, fleet, now):
    """A batch of them that is under way, with a key in each state."""
    made = write(cast, fleet, now, reason=HOSTILE)
    rows = list(BatchKey.objects.filter(batch=made))
    for row, state in zip(rows, STATES, strict=False):
        sentence = HOSTILE if state == "held" else ""
        begun = rotation(row.key, now, state, sentence=sentence, trigger="incident")
        BatchKey.objects.filter(pk=row.pk).update(rotation=begun, settled_at=now)
    for row, cause in zip(rows[len(STATES) :], ("rotating", "by_hand", "renewed"), strict=False):
        BatchKey.objects.filter(pk=row.pk).update(skipped=cause, settled_at=now)
    return made


def write(cast, fleet, now, *, reason="The vendor was broken into.", trigger="incident"):
    with transaction.atomic():
        return batches.create(
            batch_id=uuid4(),
            key_ids=[key.pk for key in fleet],
            trigger=trigger,
            reason=reason,
            request_id=fleet[0].request_id,
            person=cast.alice,
            started_by="Alice Moreau",
            actor=agents.TESTS,
            now=now - timedelta(minutes=40),
        )


def at(made, query=""):
    return f"/rotations/batches/{made.pk}/{query}"


def test_a_batch_under_way_is_clean(batch, cast, signed_in_page, judged, settings):
    page = signed_in_page(cast.alice)

    for name, address in {
        "batch": at(batch),
        "batch-held": at(batch, "?state=held"),
        "batch-none": at(batch, "?state=waiting&page=9"),
        "batch-many": "/rotations/many/?q=agent",
        "batch-many-none": "/rotations/many/?q=nothing",
        "batch-list": "/rotations/",
        "batch-rotation": f"/rotations/{Rotation.objects.get(state='held').pk}/",
        "batch-keys": "/keys/?q=agent",
    }.items():
        page.goto(address)
        judged(page, name)

    settings.ROTATION_PER_CONNECTION = 1
    Job.objects.filter(subject_id=batch.pk).update(state="held", code="crashed")
    page.goto(at(batch))
    expect(page.get_by_text("The job that begins keys has stopped")).to_be_visible()
    expect(page.get_by_text("waits for a person and keeps a place")).to_be_visible()
    judged(page, "batch-stuck")


def test_a_batch_that_was_stopped_and_one_that_is_over_are_clean(
    batch, cast, now, signed_in_page, judged
):
    page = signed_in_page(cast.alice)
    batches.stop(batch_id=batch.pk, reason=HOSTILE, actor=agents.TESTS, now=now)
    page.goto(at(batch))
    judged(page, "batch-stopped")

    Rotation.objects.exclude(state="rolled_back").update(
        state="completed", held_from="", ended_at=now
    )
    page.goto(at(batch))
    expect(page.locator("#batch-head").get_by_text("Over")).to_be_visible()
    judged(page, "batch-over")


def test_an_auditor_follows_a_batch_and_stops_nothing(batch, cast, signed_in_page, judged):
    page = signed_in_page(cast.dave)

    page.goto(at(batch))

    expect(page.locator("#main form")).to_have_count(0)
    judged(page, "batch-auditor")


def test_the_figures_move_without_a_reload_and_what_is_typed_stays(
    batch, cast, now, signed_in_page
):
    page = signed_in_page(cast.alice)
    page.goto(at(batch))
    expect(page.get_by_text("1 of 12 done")).to_be_visible()
    page.get_by_label("Why").fill("half a sentence")

    Rotation.objects.filter(state="draining").update(state="completed", ended_at=now)

    expect(page.get_by_text("2 of 12 done")).to_be_visible(timeout=30_000)
    expect(page.get_by_label("Why")).to_have_value("half a sentence")


def test_without_scripts_keys_are_chosen_asked_for_and_stopped(fleet, cast, now, signed_in_page):
    page = signed_in_page(cast.alice, java_script_enabled=False)
    page.goto("/keys/?q=agent-0")
    page.get_by_role("link", name="Rotate these…").click()
    page.get_by_label("What it is about").select_option("incident")
    page.get_by_label("Reason").fill("The vendor was broken into.")
    page.get_by_role("button", name="Rotate 10 keys").click()
    expect(page.get_by_role("heading", name="Rotate 10 keys")).to_be_visible()

    made = write(cast, fleet, now)
    page.goto(at(made))
    page.get_by_label("Why").fill("The wrong list.")
    page.get_by_role("button", name="Begin no more").click()

    expect(page.get_by_text("No more keys are begun; 12 are left out.")).to_be_visible()
    assert RotationBatch.objects.get().stopped_for == "The wrong list."
    assert Key.objects.count() == 12
