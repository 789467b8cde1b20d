"""Pages that show use: the key's section, its overview, the agent, and what a revocation breaks."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyvault.actions import revoke_key
from keyvault.inventory.models import Key
from keyvault.usage import selectors, services, watch
from keyvault.usage.models import UsageKind
from keyvault.usage.services import Reported
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys
from tests.keyvault.usage.building import used

pytestmark = pytest.mark.django_db(transaction=True)
USAGE = "/keys/ledger-reader/usage/"


@pytest.fixture
def key(cast):
    return keys.live(cast, delivery_mode="pull")


@pytest.fixture
def bot(cast, key):
    made = agents.agent(cast)
    agents.granted(cast, made, key)
    return made


def _text(response) -> str:
    assert response.status_code == 200
    return " ".join(response.content.decode().replace("\u202f", "").split())


def _use(cast) -> str:
    return revoke_key.plan(person=cast.alice, name="ledger-reader").risk()[0].evidence


def test_a_key_that_nobody_used_says_so(cast, key, client_for):
    page = _text(client_for(cast.alice).get(USAGE))

    assert "Nobody has used it yet" in page
    assert "<table" not in page.split("<main")[1].split("About this key")[0]
    assert "never used" in _text(client_for(cast.alice).get("/keys/ledger-reader/"))


def test_the_section_shows_users_hosts_volume_and_the_newest_reports(
    cast, key, bot, client_for, now
):
    used(now, key_id=key.pk, agent=bot, host="192.0.2.7", count=400, kind=UsageKind.GATEWAY)
    services.report(
        principal=bot,
        events=[
            Reported("ledger-reader", now, host="db.example.com", count=1234, number=3),
            Reported("ledger-reader", now, host="paste.example.org"),
        ],
        now=now,
    )
    used(now - timedelta(days=9), key_id=key.pk, user=cast.alice, count=70)
    watch.run(now)

    page = _text(client_for(cast.alice).get(USAGE))

    for text in ("refund-bot", "192.0.2.7", "db.example.com", "1705 uses", "v3", "Alice"):
        assert text in page, text
    assert '1235</span> of <span class="num">1000</span> declared for a day' in page
    assert page.count("Not declared") == 1
    assert "Key used for an undeclared host" in page
    assert "Key used more than declared" in page
    assert "More than declared" in page


def test_the_overview_shows_the_last_use_and_leads_to_the_rest(cast, key, bot, client_for, now):
    used(now, key_id=key.pk, agent=bot, count=12)

    page = _text(client_for(cast.alice).get("/keys/ledger-reader/"))

    assert "12 uses in 30 days" in page
    assert USAGE in page


def test_who_may_not_see_the_key_finds_no_usage(cast, key, bot, client_for, now):
    used(now, key_id=key.pk, agent=bot)

    assert client_for(cast.mallory).get(USAGE).status_code == 404
    assert client_for(cast.alice).get("/keys/no-such-key/usage/").status_code == 404


def test_an_agent_is_a_link_only_for_those_who_may_see_it(cast, key, bot, client_for, now):
    stranger = agents.agent(
        cast, "far-bot", owner=cast.bob, backup_owner=None, team=cast.security.group
    )
    for one in (bot, stranger):
        used(now, key_id=key.pk, agent=one)

    page = _text(client_for(cast.alice).get(USAGE))

    assert "/agents/refund-bot/" in page
    assert "far-bot" in page
    assert "/agents/far-bot/" not in page


def test_hostile_hosts_are_shown_inert(cast, key, bot, client_for, now):
    used(now, key_id=key.pk, agent=bot, host="<b>x\u202ey</b>", kind=UsageKind.GATEWAY)

    page = client_for(cast.alice).get(USAGE).content.decode()

    assert "<b>x" not in page
    assert "\u202e" not in page


def test_the_page_of_an_agent_names_the_keys_that_its_reader_may_know(
    cast, key, bot, client_for, now
):
    hidden = keys.live(cast, name="hidden-key")
    for one in (key, hidden):
        used(now, key_id=one.pk, agent=bot, count=5)
    hidden.grants.exclude(user=cast.alice).update(ended_at=now)

    mine = _text(client_for(cast.alice).get("/agents/refund-bot/")).split("Keys it used")[1]
    teams = _text(client_for(cast.carol).get("/agents/refund-bot/")).split("Keys it used")[1]
    assert "hidden-key" in mine
    assert "ledger-reader" in teams

    bot.backup_owner = None
    bot.save()
    teams = _text(client_for(cast.carol).get("/agents/refund-bot/")).split("Keys it used")[1]
    assert "hidden-key" not in teams
    assert "ledger-reader" in teams


def test_a_revocation_names_who_used_the_key_in_thirty_days(cast, key, bot, client_for, now):
    assert "No use in the last 30 days is known" in _use(cast)

    used(now, key_id=key.pk, agent=bot, count=5)
    used(now - timedelta(days=3), key_id=key.pk, user=cast.alice)
    used(now - timedelta(days=31), key_id=key.pk, user=cast.bob)

    assert _use(cast) == "Alice and refund-bot used it in the last 30 days."
    page = _text(client_for(cast.alice).get("/keys/ledger-reader/revoke/"))
    assert "Alice and refund-bot used it in the last 30 days." in page
    assert "No dependent is registered" not in page


def test_use_changes_the_risk_of_a_revocation_and_never_its_plan(cast, key, bot, now):
    action = revoke_key.plan(person=cast.alice, name="ledger-reader")
    plan, risk = action.describe(), action.risk()

    used(now, key_id=key.pk, agent=bot, host="db.example.com", count=900)

    assert action.describe() == plan
    assert action.risk() != risk


def test_a_key_read_by_hand_admits_what_is_not_known(cast, key, now):
    Key.objects.update(delivery_mode="reveal")

    plan = revoke_key.plan(person=cast.alice, name="ledger-reader").describe()
    assert "use that nobody reports is not known here" in plan.breaks[1]


def test_usage_of_a_key_is_plain_and_whole(cast, key, bot, now):
    used(now, key_id=key.pk, agent=bot, host="db.example.com", count=5)
    used(now - timedelta(hours=5), key_id=key.pk, agent=bot, count=6)
    used(now - timedelta(days=20), key_id=key.pk, user=cast.alice, count=7)
    used(now - timedelta(days=80), key_id=key.pk, user=cast.alice, count=80)

    found = selectors.usage_of(key.pk, since=selectors.first_day(now), now=now)

    assert (found.total, found.last_at, found.users) == (18, now, 2)
    assert sum(bucket.count for bucket in found.by_hour) == 11
    assert (len(found.by_hour), found.by_hour[-1].count) == (24, 5)
    assert (len(found.by_day), sum(bucket.count for bucket in found.by_day)) == (30, 18)
    assert [(part.kind, part.name, part.count) for part in found.by_user] == [
        ("agent", "refund-bot", 11),
        ("user", "Alice", 7),
    ]
    assert [(part.kind, part.name, part.count) for part in found.by_host] == [
        ("reported", "db.example.com", 5)
    ]
    older = selectors.usage_of(key.pk, since=now - timedelta(days=4000), now=now)
    assert (older.total, len(older.by_day)) == (98, 91)


def test_only_the_newest_users_and_hosts_are_named_and_the_rest_counted(cast, key, now):
    for number in range(25):
        one = agents.agent(cast, f"bot-{number:02}")
        used(now - timedelta(minutes=number), key_id=key.pk, agent=one, host=f"h{number}.example")

    found = selectors.usage_of(key.pk, since=selectors.first_day(now), now=now)

    assert (len(found.by_user), found.users, found.by_user[0].name) == (20, 25, "bot-00")
    assert (len(found.by_host), found.hosts) == (20, 25)


def test_the_section_asks_as_many_questions_for_many_as_for_one(
    cast, key, bot, client_for, now, django_assert_max_num_queries
):
    client = client_for(cast.alice)
    used(now, key_id=key.pk, agent=bot)
    client.get(USAGE)
    with django_assert_max_num_queries(60) as few:
        client.get(USAGE)
    for number in range(15):
        used(
            now,
            key_id=key.pk,
            agent=agents.agent(cast, f"bot-{number:02}"),
            host=f"h{number}.example",
        )

    with django_assert_max_num_queries(len(few)):
        client.get(USAGE)
