"""A value that ends at its provider is replaced before, once; a day that was missed is told."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.urls import reverse

from keyvault.audit.models import Event
from keyvault.connections import issuing
from keyvault.findings.models import Finding, FindingKind
from keyvault.inventory.models import Key
from keyvault.providers import registry
from keyvault.providers.base import Shape
from keyvault.rotation import schedules, triggers
from keyvault.rotation.models import Rotation
from keyvault.vault import selectors as versions
from keyvault.vault.models import Version
from keyvault.web import lookout
from tests import races
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
AHEAD = timedelta(days=7)


@pytest.fixture
def ending(key, now, terms, settings):
    """Return a function that has the current value end, and the key's own day be far away."""
    settings.ROTATION_EXPIRY_DAYS = AHEAD.days

    def make(in_days, *, issued_days_ago=60, turn_in_days=300):
        current = versions.current(key.pk)
        current.issued_at = now - timedelta(days=issued_days_ago)
        current.expires_at = now + timedelta(days=in_days)
        current.save()
        turn = now + timedelta(days=turn_in_days) if turn_in_days else None
        Key.objects.filter(pk=key.pk).update(rotation_due_at=turn, rotation_cause="cadence")
        return current

    return make


@pytest.fixture
def overdue(key, now, terms):
    """A key whose day was missed by two hours because its plug-in is gone."""
    due = now - timedelta(hours=2)
    Key.objects.filter(pk=key.pk).update(rotation_due_at=due, rotation_cause="cadence")
    key.refresh_from_db()
    return key


def test_a_value_that_ends_soon_is_rotated_once_and_for_that_reason(ending, key, now, fresh):
    current = ending(in_days=5)

    assert triggers.run(now) == 1
    assert triggers.run(now) == 0

    rotation = Rotation.objects.get(key=key)
    assert (rotation.trigger, rotation.slot) == ("expiry", current.expires_at - AHEAD)
    told = Event.objects.get(event="key.rotation_due", fields__cause="expiry")
    assert told.fields["due_at"] == rotation.slot.isoformat()


def test_a_value_that_ends_has_another_day_when_its_rotation_went_back(ending, key, now, fresh):
    ending(in_days=5)
    triggers.run(now)
    went_back(key, now)

    assert triggers.run(now) == 0
    row = fresh(key)
    assert (row.rotation_due_at, row.rotation_cause) == (now + timedelta(days=1), "expiry")
    told = Event.objects.filter(event="key.rotation_due").count()
    assert triggers.run(now) == 0
    assert Event.objects.filter(event="key.rotation_due").count() == told, "the day stands"
    tomorrow = now + timedelta(days=1, seconds=1)
    assert triggers.run(tomorrow) == 1

    went_back(key, now + timedelta(days=4, hours=12))
    triggers.run(now + timedelta(days=4, hours=13))
    assert fresh(key).rotation_due_at == now + timedelta(days=4, hours=18), "the end is near"


def test_a_value_without_an_end_has_no_other_day(overdue, key, now, fresh):
    due = overdue.rotation_due_at
    triggers.run(now)
    went_back(key, now)

    assert triggers.run(now + timedelta(days=3)) == 0
    assert fresh(key).rotation_due_at == due


def test_to_look_for_days_that_went_back_costs_the_same_for_many_keys(
    key, begin, cast, where, now, django_assert_num_queries
):
    """A key whose rotation a person sent back keeps its day, and is looked at for ever."""
    days = [now - timedelta(hours=hours) for hours in (2, 3, 4)]
    others = [live(rows.key(cast, where, name=f"kept-{number}"), now) for number in range(2)]
    for one, day in zip((key, *others), days, strict=True):
        Key.objects.filter(pk=one.pk).update(rotation_due_at=day, rotation_cause="cadence")
        begin(of=one, slot=day)
        went_back(one, now)
        with django_assert_num_queries(2):
            assert schedules.try_anew(now) == 0

    for one, days_left in zip(others, (5, 0), strict=True):
        Version.objects.filter(key=one).update(expires_at=now + timedelta(days=days_left))
    assert schedules.try_anew(now) == 1, "of the two that end, one does so too soon"
    assert list(Key.objects.order_by("rotation_due_at").values_list("pk", "rotation_due_at")) == [
        (others[1].pk, days[2]),
        (key.pk, days[0]),
        (others[0].pk, now + timedelta(days=1)),
    ]


def live(key, now):
    """Give a key its first value and the dates of one that lives."""
    request_id = uuid4()
    claims = fakes.Claims(now, request_id)
    issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)
    Key.objects.filter(pk=key.pk).update(
        state="live", live_at=now, expires_at=now.replace(year=now.year + 1)
    )
    return key


def went_back(key, at):
    """Have the open rotation of a key be over, without a new version."""
    found = Rotation.objects.filter(key=key, ended_at=None)
    assert found.update(state="rolled_back", ended_at=at) == 1


def test_its_day_is_shown_beforehand(ending, key, now, fresh, cast, client_for):
    current = ending(in_days=30)

    assert triggers.run(now) == 0

    row = fresh(key)
    assert (row.rotation_due_at, row.rotation_cause) == (current.expires_at - AHEAD, "expiry")
    page = client_for(cast.dave).get(reverse("key", args=[key.name])).content.decode()
    assert "its value ends at the provider" in page
    assert schedules.bring_forward(now) == 0, "the day stands, so nothing is written again"


def test_a_value_whose_key_rotates_earlier_anyway_is_left_alone(ending, key, now, fresh):
    ending(in_days=30, turn_in_days=10)

    assert triggers.run(now) == 0
    assert fresh(key).rotation_cause == "cadence"


def test_a_value_that_outlives_its_key_is_left_alone(ending, key, now, fresh):
    ending(in_days=5)
    Key.objects.filter(pk=key.pk).update(expires_at=now + timedelta(days=4))

    assert triggers.run(now) == 0
    assert fresh(key).rotation_cause == "cadence"


def test_a_short_life_is_not_rotated_over_and_over(ending, key, now, fresh):
    ending(in_days=1, issued_days_ago=0, turn_in_days=300)

    assert triggers.run(now) == 0

    assert fresh(key).rotation_due_at == now + timedelta(hours=12)
    assert triggers.run(now + timedelta(hours=13)) == 1


def test_two_clocks_begin_one_rotation_for_one_end(ending, key, now):
    ending(in_days=5)

    clocks = [races.Racer(lambda: triggers.run(now)) for _ in range(2)]
    for clock in clocks:
        clock.finish()

    assert Rotation.objects.filter(key=key).count() == 1
    assert Event.objects.filter(event="key.rotation_due").count() == 1


def test_a_day_that_was_missed_is_a_finding_for_who_can_act(
    overdue, now, monkeypatch, cast, client_for
):
    plugin = registry._registry._loaded.pop(overdue.provider)

    for _ in range(2):
        assert triggers.run(now) == 0

    finding = Finding.objects.get(kind=FindingKind.MISSED)
    assert "the plug-in of Orders is not loaded" in finding.sentence
    rules.DEFAULTS.put(cast.now)
    [sight] = lookout.decisions(cast.frank)
    assert sight.href == reverse("key", args=[overdue.name])
    assert lookout.decisions(cast.mallory) == []
    assert overdue.name in client_for(cast.frank).get("/").content.decode()

    registry._registry._loaded[overdue.provider] = plugin
    assert triggers.run(now) == 1
    finding.refresh_from_db()
    assert finding.closed_at == now
    assert Event.objects.filter(event="finding.opened", fields__kind="missed").count() == 1


def test_a_day_that_is_served_or_just_due_is_no_finding(overdue, now, fake):
    triggers.run(now)
    assert Rotation.objects.filter(key=overdue).exists()
    assert not Finding.objects.filter(kind=FindingKind.MISSED).exists()

    Rotation.objects.update(state="rolled_back", ended_at=now)
    assert schedules.tell_missed(now + timedelta(days=1)) == 0, "the slot was served"


def test_values_that_end_by_themselves_miss_no_day(overdue, now, fake):
    fake.shape = Shape.EPHEMERAL

    assert triggers.run(now) == 0

    assert not Finding.objects.exists()
