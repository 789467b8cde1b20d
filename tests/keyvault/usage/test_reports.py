"""Reports of use: what is taken, and every way in which an event is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from keyvault.inventory import grants
from keyvault.usage import services
from keyvault.usage.models import UsageEvent, UsageHour
from keyvault.usage.services import Reported
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(cast):
    return keys.live(cast)


@pytest.fixture
def bot(cast, key):
    made = agents.agent(cast)
    agents.granted(cast, made, key)
    return made


def _report(principal, *events, now):
    return services.report(principal=principal, events=events, now=now)


def test_a_report_is_kept_and_summed_at_once(bot, key, now):
    result = _report(
        bot,
        Reported("ledger-reader", now, host="DB.example.com.", count=3, number=2),
        Reported("ledger-reader", now - timedelta(seconds=1), host="db.example.com"),
        now=now,
    )

    assert (result.accepted, result.refused) == (2, ())
    hours = UsageHour.objects.all()
    assert sum(hour.count for hour in hours) == 4
    assert {(row.key_id, row.agent_id, row.user_id, row.host, row.kind) for row in hours} == {
        (key.pk, bot.pk, None, "db.example.com", "reported")
    }
    kept = UsageEvent.objects.get(count=3)
    assert (kept.at, kept.number, kept.host, kept.reported_at) == (now, 2, "db.example.com", now)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"key": "no-such-key"}, "key"),
        ({"key": "x" * 5000}, "key"),
        ({"key": "ledger-reader\x00"}, "key"),
        ({"back": timedelta(hours=24, seconds=1)}, "at"),
        ({"back": timedelta(minutes=-5, seconds=-1)}, "at"),
        ({"count": 0}, "count"),
        ({"count": -1}, "count"),
        ({"count": 1_000_001}, "count"),
        ({"number": 0}, "version"),
        ({"number": 2**31}, "version"),
        ({"host": "https://db.example.com/"}, "host"),
        ({"host": "*.example.com"}, "host"),
        ({"host": "a" * 300}, "host"),
        ({"host": "db\x00.example.com"}, "host"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason_and_the_rest_is_kept(bot, now, change, code):
    back = change.pop("back", timedelta(0))
    bad = Reported(**{"key": "ledger-reader", "at": now - back, **change})

    result = _report(bot, Reported("ledger-reader", now), bad, now=now)

    assert (result.accepted, [(one.index, one.code) for one in result.refused]) == (1, [(1, code)])
    assert result.refused[0].sentence.endswith(".")
    assert UsageEvent.objects.count() == 1


@pytest.mark.parametrize("back", [timedelta(hours=24), timedelta(minutes=-5), timedelta(0)])
def test_the_bounds_of_time_themselves_are_taken(bot, now, back):
    assert _report(bot, Reported("ledger-reader", now - back), now=now).accepted == 1


def test_a_time_without_a_zone_is_refused(bot, now):
    naive = now.replace(tzinfo=None)

    assert _report(bot, Reported("ledger-reader", naive), now=now).refused[0].code == "at"


def test_a_key_that_was_never_granted_is_refused_like_one_that_does_not_exist(cast, bot, now):
    keys.live(cast, name="another-key")

    result = _report(bot, Reported("another-key", now), Reported("no-such-key", now), now=now)

    assert result.accepted == 0
    assert result.refused[0].sentence == result.refused[1].sentence
    assert not UsageHour.objects.exists()


def test_a_grant_to_a_team_reaches_its_agents(cast, now, key):
    made = agents.agent(cast, "team-bot")
    agents.granted(cast, cast.payments.group, key)
    assert _report(made, Reported("ledger-reader", now), now=now).accepted == 0

    made.memberships.create(group=cast.payments.group, joined_at=now)

    assert _report(made, Reported("ledger-reader", now), now=now).accepted == 1


def test_an_ended_right_still_lets_use_be_reported_for_thirty_days(bot, key, now):
    with transaction.atomic():
        grants.end_grant(grant=bot.grants.get(), actor=agents.TESTS, now=now)

    for days, accepted in ((0, 1), (29, 1), (31, 0)):
        then = now + timedelta(days=days)
        assert _report(bot, Reported("ledger-reader", then), now=then).accepted == accepted


def test_a_person_reports_the_use_of_keys_they_hold_and_of_no_others(cast, key, now):
    event = Reported("ledger-reader", now)

    assert _report(cast.alice, event, now=now).accepted == 1
    for person in (cast.carol, cast.frank, cast.dave, cast.mallory):
        assert _report(person, event, now=now).accepted == 0
    assert UsageHour.objects.get().user_id == cast.alice.pk


def test_a_persons_right_that_ended_reports_nothing(cast, key, now):
    with transaction.atomic():
        for grant in key.grants.filter(user=cast.alice):
            grants.end_grant(grant=grant, actor=agents.TESTS, now=now)

    assert _report(cast.alice, Reported("ledger-reader", now), now=now).accepted == 0


def test_a_batch_of_a_thousand_is_taken_and_one_more_is_not(bot, now):
    event = Reported("ledger-reader", now)

    assert _report(bot, *[event] * 1000, now=now).accepted == 1000
    with pytest.raises(services.TooMany):
        _report(bot, *[event] * 1001, now=now)
    assert UsageEvent.objects.count() == 1000


def test_an_empty_batch_is_nothing(bot, now):
    assert _report(bot, now=now) == services.Report(0, ())


def test_a_key_whose_name_was_released_takes_no_reports(cast, bot, key, now):
    type(key).objects.filter(pk=key.pk).update(
        state="requested", live_at=None, expires_at=None, released_at=now
    )

    assert _report(bot, Reported("ledger-reader", now), now=now).accepted == 0
