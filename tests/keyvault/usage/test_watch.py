"""Findings about use: opened once with evidence and a link, closed when over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from keyvault.audit.models import Event
from keyvault.findings.models import Finding
from keyvault.inventory import grants
from keyvault.inventory.models import Key
from keyvault.usage import rollups, watch
from keyvault.usage.models import UsageKind
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys
from tests.keyvault.usage.building import used

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(cast):
    return keys.live(cast, delivery_mode="pull")


@pytest.fixture
def bot(cast, key):
    made = agents.agent(cast)
    agents.granted(cast, made, key)
    return made


def _open():
    return {finding.kind: finding for finding in Finding.objects.filter(closed_at=None)}


def test_use_as_declared_opens_nothing(key, bot, now):
    used(now, key_id=key.pk, agent=bot, host="db.example.com", count=1000)
    used(now, key_id=key.pk, agent=bot, host="192.0.2.7", count=1000, kind=UsageKind.GATEWAY)

    assert watch.run(now) == 0
    assert _open() == {}


def test_a_strange_host_is_one_finding_with_evidence_and_link_until_a_day_has_passed(key, bot, now):
    used(now, key_id=key.pk, agent=bot, host="paste.example.org", count=4)

    for minute in range(3):
        assert watch.run(now + timedelta(minutes=minute)) == 1

    finding = _open()["use_host"]
    assert (finding.subject_kind, finding.subject_id) == ("key", str(key.pk))
    assert finding.evidence["host"] == "paste.example.org"
    assert (finding.evidence["who"], finding.evidence["count"]) == ("refund-bot", 4)
    assert finding.evidence["allowed_hosts"] == ["db.example.com"]
    assert finding.evidence["link"] == "/keys/ledger-reader/usage/"
    assert Event.objects.filter(event="finding.opened").count() == 1

    assert watch.run(now + timedelta(hours=25)) == 0
    assert _open() == {}
    assert Event.objects.filter(event="finding.closed").count() == 1
    watch.run(now + timedelta(hours=26))
    assert Event.objects.filter(event="finding.closed").count() == 1


def test_a_host_that_is_declared_meanwhile_closes_its_finding_and_no_other(key, bot, now):
    for host in ("a.example.org", "b.example.org"):
        used(now, key_id=key.pk, agent=bot, host=host)
    watch.run(now)

    Key.objects.update(allowed_hosts=["db.example.com", "a.example.org"])
    watch.run(now)

    assert [f.evidence["host"] for f in Finding.objects.filter(closed_at=None)] == ["b.example.org"]


def test_more_than_declared_is_a_finding(key, bot, now):
    used(now, key_id=key.pk, agent=bot, count=600)
    used(now - timedelta(hours=22), key_id=key.pk, agent=bot, count=401)
    used(now - timedelta(hours=25), key_id=key.pk, agent=bot, count=99_000)

    watch.run(now)

    assert _open()["use_volume"].evidence == {
        "count": 1001,
        "declared": 1000,
        "most": "refund-bot",
        "link": "/keys/ledger-reader/usage/",
    }


def test_use_after_the_right_has_ended_is_a_finding_and_before_it_is_none(key, bot, now):
    with transaction.atomic():
        grants.end_grant(grant=bot.grants.get(), actor=agents.TESTS, now=now)
    used(now, key_id=key.pk, agent=bot)
    assert watch.run(now) == 0

    used(now + timedelta(minutes=6), key_id=key.pk, agent=bot)
    watch.run(now + timedelta(minutes=7))

    assert "after its right to do so had ended" in _open()["use_ended"].sentence


def test_a_right_given_again_closes_that_finding(cast, key, bot, now):
    with transaction.atomic():
        grants.end_grant(
            grant=bot.grants.get(), actor=agents.TESTS, now=now - timedelta(minutes=10)
        )
    used(now, key_id=key.pk, agent=bot)
    watch.run(now)
    assert set(_open()) == {"use_ended"}

    agents.granted(cast, bot, key)
    watch.run(now)

    assert _open() == {}


def test_leaving_the_team_that_holds_the_grant_ends_the_right(cast, key, now):
    made = agents.agent(cast, "team-bot")
    agents.granted(cast, cast.payments.group, key)
    made.memberships.create(
        group=cast.payments.group, joined_at=now - timedelta(days=2), left_at=None
    )
    used(now, key_id=key.pk, agent=made)
    assert watch.run(now) == 0

    made.memberships.update(left_at=now - timedelta(hours=1))
    watch.run(now)

    assert set(_open()) == {"use_ended"}


def test_an_agent_that_is_not_registered_for_the_key_is_named(cast, key, now):
    stranger = agents.agent(cast, "stranger")
    used(now, key_id=key.pk, agent=stranger, host="192.0.2.9", kind=UsageKind.GATEWAY)

    watch.run(now)

    assert _open()["use_ended"].sentence == "stranger uses ledger-reader and was never granted it."


def test_a_key_read_by_hand_is_noticed_in_a_program(key, bot, cast, now):
    Key.objects.update(delivery_mode="reveal")
    used(now, key_id=key.pk, user=cast.alice)
    assert watch.run(now) == 0

    used(now, key_id=key.pk, agent=bot)
    watch.run(now)

    assert set(_open()) == {"use_by_hand"}


def test_sums_of_what_is_unknown_stop_nothing(key, bot, now):
    with transaction.atomic():
        rollups.add(
            [rollups.Tally(rollups.Place(bot.pk, rollups.hour_of(now), key.pk, None, "x", "reported"), 1, now)]
        )  # fmt: skip
    used(now, key_id=key.pk, agent=bot, host="paste.example.org")

    assert watch.run(now) == 1


def test_the_questions_asked_do_not_grow_with_the_keys(
    cast, key, bot, now, django_assert_max_num_queries
):
    for number in range(20):
        other = keys.live(cast, name=f"key-{number:02}", delivery_mode="pull")
        agents.granted(cast, bot, other)
        used(now, key_id=other.pk, agent=bot, host="db.example.com")

    with django_assert_max_num_queries(6):
        assert watch.run(now) == 0
