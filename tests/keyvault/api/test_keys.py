"""Keys by token: who sees which, ETags, cursors, filters, and the same 404 for hidden and missing."""

from __future__ import annotations

import json

import pytest
from django.db import transaction

from keyvault.agents import memberships
from keyvault.inventory.models import Grant
from tests.keyvault.agents import builders
from tests.keyvault.inventory import builders as keys
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db


def names(answer) -> list[str]:
    return [item["name"] for item in answer.json()["items"]]


def test_a_person_sees_own_keys_and_those_of_own_teams_and_nothing_else(cast, as_):
    keys.live(cast)

    for person, expected in (
        (cast.alice, ["ledger-reader"]),
        (cast.carol, ["ledger-reader"]),
        (cast.dave, ["ledger-reader"]),
        (cast.bob, []),
        (cast.mallory, []),
    ):
        assert names(as_(person).get("/keys")) == expected, person
        status = as_(person).get("/keys/ledger-reader").status_code
        assert status == (200 if expected else 404), person


def test_a_key_says_its_facts_and_what_the_caller_may_do(cast, as_):
    key = keys.live(cast)

    found = as_(cast.alice).get("/keys/ledger-reader").json()

    assert (found["id"], found["state"], found["environment"]) == (str(key.pk), "live", "dev")
    assert found["owner"] == {"id": str(cast.alice.pk), "name": "Alice"}
    assert found["permissions"] == ["manage", "reveal", "revoke", "rotate", "view"]
    assert "options" not in found


def test_an_agent_sees_the_keys_it_may_use_for_as_long_as_it_may(cast, as_, bot):
    key, other = keys.live(cast), keys.live(cast, name="other-key")
    caller = as_(bot)
    assert names(caller.get("/keys")) == []

    grant = builders.granted(cast, bot, key)
    assert names(caller.get("/keys")) == ["ledger-reader"]
    assert caller.get("/keys/ledger-reader").json()["permissions"] == ["use"]
    assert caller.get(f"/keys/{other.name}").status_code == 404

    Grant.objects.filter(pk=grant.pk).update(ended_at=cast.now)
    assert caller.get("/keys/ledger-reader").status_code == 404


def test_a_grant_to_a_group_reaches_its_agents(cast, as_, bot):
    key = keys.live(cast)
    with transaction.atomic():
        memberships.join(
            agent_id=bot.pk,
            group=cast.payments.group,
            request_id=key.pk,
            actor=builders.TESTS,
            now=cast.now,
        )
    builders.granted(cast, cast.payments.group, key)

    assert names(as_(bot).get("/keys")) == ["ledger-reader"]


@pytest.mark.parametrize("who", ["agent", "person"])
def test_a_narrowed_token_sees_the_keys_it_names_alone(cast, as_, bot, who):
    for name in ("ledger-reader", "other-key"):
        builders.granted(cast, bot, keys.live(cast, name=name))
    holder = bot if who == "agent" else cast.alice

    caller = as_(holder, keys=["other-key"])

    assert names(caller.get("/keys")) == ["other-key"]
    assert caller.get("/keys/ledger-reader").status_code == 404
    assert caller.get("/keys/ledger-reader/versions").status_code == 404


@pytest.mark.parametrize("path", ["/keys/{}", "/keys/{}/versions"])
def test_hidden_and_missing_are_told_apart_by_nothing(cast, as_, bot, path):
    keys.live(cast, name="hidden-key")

    for caller in (as_(bot), as_(cast.mallory), as_(cast.bob)):
        hidden, missing = (
            caller.get(path.format("hidden-key")),
            caller.get(path.format("absent-key")),
        )
        texts = []
        for answer in (hidden, missing):
            body = answer.json()
            body.pop("request_id")
            texts.append(json.dumps(body).replace("hidden-key", "absent-key"))
        assert hidden.status_code == missing.status_code == 404
        assert texts[0] == texts[1]


def test_an_agent_that_is_refused_a_key_is_told_how_to_ask_for_it(cast, as_, bot):
    refused = as_(bot).get("/keys/ledger-reader").json()

    action = refused["next_action"]
    assert (action["method"], action["href"]) == ("POST", "/api/v1/requests")
    assert action["body"] == {
        "kind": "grant.give",
        "key": "ledger-reader",
        "agent": "refund-bot",
        "days": 30,
        "reason": "",
    }


def test_an_etag_spares_what_the_caller_has_and_moves_with_the_key(cast, as_):
    key, alice = keys.live(cast), as_(cast.alice)
    first = alice.get("/keys/ledger-reader")

    same = alice.get("/keys/ledger-reader", If_None_Match=first["ETag"])
    assert (same.status_code, same.content, same["ETag"]) == (304, b"", first["ETag"])

    key.title = "Another title"
    key.save()
    moved = alice.get("/keys/ledger-reader", If_None_Match=first["ETag"])
    assert moved.status_code == 200
    assert moved["ETag"] != first["ETag"]


@pytest.mark.parametrize("sort", ["name", "expires"])
def test_cursors_lead_through_every_key_once(cast, as_, sort):
    for number in range(7):
        keys.live(cast, name=f"key-{number}", lifetime_days=90 - number % 3)
    alice, seen, cursor = as_(cast.alice), [], ""

    for _ in range(9):
        answer = alice.get(f"/keys?sort={sort}&limit=3" + (f"&cursor={cursor}" if cursor else ""))
        seen += names(answer)
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break

    assert sorted(seen) == [f"key-{number}" for number in range(7)]
    assert len(seen) == 7


@pytest.mark.parametrize(
    "query",
    [
        "ordering=secret__value",
        "key__owner__password__startswith=a",
        "owner__password__startswith=a",
        "owner=bob",
        "state=nonsense",
        "sort=purpose",
        "sort=-name",
        "limit=0",
        "limit=201",
        "limit=1e3",
        "cursor=made-up",
        "cursor=WyJuYW1lIiwiYSIsIiJd:x:y",
        "q=%00",
        "name=a",
        "id=1",
        "state=live&state=revoked",
        "after=x",
    ],
)
def test_r33_only_listed_filters_are_taken(cast, as_, query):
    answer = as_(cast.alice).get(f"/keys?{query}")

    assert answer.status_code == 400
    assert answer.json()["type"].endswith(":bad-query")


def test_r33_a_search_finds_visible_keys_only(cast, as_, bot):
    keys.live(cast, name="hidden-key")

    for caller in (as_(cast.mallory), as_(bot)):
        for query in ("q=hidden", "sort=expires", "state=live", "team=payments", "limit=200"):
            assert caller.get(f"/keys?{query}").json() == {"items": [], "next_cursor": None}


@pytest.mark.parametrize("name", ["..", "%2e%2e", "a", "A B", "%ff", "x" * 49, "name;drop", "%00"])
def test_r35_a_name_that_no_key_can_have_is_refused(cast, as_, name):
    assert as_(cast.alice).get(f"/keys/{name}").status_code in {400, 404}


def test_r35_a_name_is_read_in_its_one_form(cast, as_):
    keys.live(cast)

    assert as_(cast.alice).get("/keys/LEDGER-Reader").json()["name"] == "ledger-reader"


def test_versions_are_listed_without_any_value(cast, as_, fake):
    key = keys.live(cast)
    rows.live_version(key, key.request_id, cast.now, value="canary-value")

    answer = as_(cast.alice).get("/keys/ledger-reader/versions")

    assert [row["number"] for row in answer.json()["items"]] == [1]
    assert answer.json()["items"][0]["state"] == "current"
    assert b"canary" not in answer.content


def test_agents_an_agent_sees_itself_and_a_person_those_of_own_teams(cast, as_, bot):
    other = builders.agent(
        cast, "other-bot", owner=cast.bob, backup_owner=None, team=cast.security.group
    )

    assert names(as_(bot).get("/agents")) == ["refund-bot"]
    assert names(as_(other).get("/agents")) == ["other-bot"]
    assert names(as_(cast.alice).get("/agents")) == ["refund-bot"]
    assert names(as_(cast.frank).get("/agents?limit=1")) == ["other-bot"]
    assert names(as_(cast.mallory).get("/agents")) == []
    assert as_(bot).get("/agents/other-bot").status_code == 404
    assert as_(cast.carol).get("/agents/refund-bot").json()["owner"]["name"] == "Alice"
