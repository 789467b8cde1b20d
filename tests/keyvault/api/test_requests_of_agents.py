"""Agents ask by token, in the name of their owner: what they may, and who decides."""

from __future__ import annotations

import pytest

from approvals import selectors, services
from approvals.models import Request
from approvals.policy import eligibility
from approvals.selectors import history
from keyvault.agents.models import Agent
from keyvault.audit.models import Event
from keyvault.inventory.models import Grant, Key
from tests import cast as people
from tests.keyvault.agents import builders
from tests.keyvault.api.test_requests import creation, kind_of

pytestmark = pytest.mark.django_db


def test_an_agent_asks_in_the_name_of_its_owner(house, as_, bot):
    made = as_(bot).post("/requests", creation())

    assert made.status_code == 201, made.content
    row = Request.objects.get(pk=made.json()["id"])
    event = Event.objects.get(event="request.submitted", request_id=row.pk)
    assert (row.requester, row.asked_by.id) == (house.cast.alice, str(bot.pk))
    assert made.json()["asked_by"] == {"kind": "agent", "id": str(bot.pk), "label": "refund-bot"}
    assert (event.actor_kind, event.actor_label, event.on_behalf_of) == (
        "agent",
        "refund-bot",
        "alice",
    )


def test_a_refused_agent_sends_what_it_was_told_and_reads_after_the_approval(house, as_, bot):
    house.pull()
    caller = as_(bot)
    action = caller.get("/keys/ledger-reader").json()["next_action"]

    made = caller.call(
        action["method"], action["href"], action["body"] | {"reason": "It pays refunds."}
    )
    assert made.status_code == 201, made.content
    house.say(house.cast.bob, Request.objects.get(pk=made.json()["id"]))
    house.work()

    assert caller.get(f"/requests/{made.json()['id']}").json()["state"] == "done"
    assert caller.get("/keys/ledger-reader").json()["permissions"] == ["use"]
    assert Grant.objects.get(agent=bot).ends_at is not None


def test_an_agent_asks_for_itself_alone(house, as_, bot):
    house.pull()
    builders.agent(house.cast, "other-bot")

    for more in ({"agent": "other-bot"}, {"team": "payments"}):
        body = {"kind": "grant.give", "key": "ledger-reader", "reason": "x", "days": 5} | more
        assert kind_of(as_(bot).post("/requests", body)) == "forbidden"
    assert Request.objects.filter(kind="grant.give").count() == 0


def test_what_an_agents_owner_cannot_see_looks_missing_to_the_agent(house, as_):
    house.pull()
    bot = builders.agent(
        house.cast, owner=house.cast.mallory, backup_owner=None, team=house.cast.security.group
    )
    answers = []
    for name in ("ledger-reader", "absent-key"):
        body = {"kind": "grant.give", "key": name, "reason": "x"}
        answer = as_(bot).post("/requests", body)
        answers.append({k: v for k, v in answer.json().items() if k != "request_id"})

    assert answers[0] == answers[1]
    assert answers[0]["status"] == 404


@pytest.mark.parametrize("kind", ["secret.reveal", "key.revoke"])
def test_an_agent_can_neither_have_a_value_shown_nor_end_a_key_that_it_does_not_use(
    house, as_, bot, kind
):
    house.create()
    body = {"kind": kind, "key": "ledger-reader", "reason": "x"}

    assert as_(bot).post("/requests", body).status_code in {403, 404}
    assert not Request.objects.filter(kind=kind).exists()


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "key.revoke"},
        {"kind": "key.rotate"},
        {"kind": "secret.reveal"},
        {"kind": "grant.give", "agent": "refund-bot"},
        {"kind": "place.add", "connection": "orders", "name": "x"},
        {"kind": "place.remove", "name": "x"},
        {"kind": "probe.add", "name": "x", "address": "https://a.example/"},
        {"kind": "key.change", "volume_per_day": 2},
    ],
)
def test_a_narrowed_token_asks_about_no_other_key(house, as_, more):
    builders.agent(house.cast)
    key = house.pull()
    narrowed = as_(house.cast.alice, keys=("another-key",))

    answer = narrowed.post("/requests", more | {"key": key.name, "reason": "Over."})

    assert (answer.status_code, kind_of(answer)) == (404, "not-found"), answer.content
    assert not Request.objects.filter(kind=more["kind"]).exists()


def test_an_agent_sees_and_withdraws_its_own_requests_and_no_other_of_its_owner(house, as_, bot):
    own = as_(bot).post("/requests", creation()).json()["id"]
    alices = as_(house.cast.alice).post("/requests", creation(name="hers")).json()["id"]
    other = as_(builders.agent(house.cast, "other-bot"))

    assert [row["id"] for row in as_(bot).get("/requests").json()["items"]] == [own]
    for caller, request_id in ((as_(bot), alices), (other, own), (other, alices)):
        assert caller.get(f"/requests/{request_id}").status_code == 404
        assert caller.post(f"/requests/{request_id}/withdraw").status_code == 404
        assert caller.patch(f"/requests/{request_id}", {"reason": "x"}).status_code == 403
    assert as_(house.cast.alice).get(f"/requests/{own}").status_code == 200
    assert as_(bot).post(f"/requests/{own}/withdraw").json()["state"] == "withdrawn"
    assert Event.objects.get(event="request.withdrawn").actor_label == "refund-bot"
    last = selectors.access_request(house.cast.alice, own)
    assert history.timeline(last)[-1]["actor"].label == "refund-bot"


def test_the_page_says_that_an_agent_asked(house, as_, bot, client_for):
    made = as_(bot).post("/requests", creation()).json()

    for person in (house.cast.alice, house.cast.bob):
        page = client_for(person).get(made["page"]).content.decode()
        assert "refund-bot" in page
        assert "asked in that name" in page
    assert b"by the agent refund-bot" in client_for(house.cast.bob).get("/approvals/").content


def test_a_sixth_open_request_of_an_agent_is_refused(house, as_, bot):
    caller = as_(bot)
    made = [caller.post("/requests", creation(name=f"key-{n}")) for n in range(6)]

    assert [answer.status_code for answer in made] == [201] * 5 + [409]
    assert kind_of(made[-1]) == "too-many-open"
    assert not Key.objects.filter(name="key-5").exists()
    caller.post(f"/requests/{made[0].json()['id']}/withdraw")
    assert caller.post("/requests", creation(name="key-5")).status_code == 201


def test_an_agent_without_a_living_owner_asks_for_nobody(house, as_, bot):
    house.cast.alice.is_active = False
    house.cast.alice.save()

    assert kind_of(as_(bot).post("/requests", creation())) == "forbidden"


def test_r15_neither_the_owner_nor_whoever_answers_or_answered_for_the_agent_decides(house, as_):
    cast = house.cast
    bot = builders.agent(cast, owner=cast.alice, backup_owner=cast.bob)
    people.join(cast.alice, "security", now=cast.now - people.JOINED_AGO)
    row = Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])

    assert selectors.standing(row, cast.alice, now=cast.now).why_not == eligibility.SELF
    assert selectors.standing(row, cast.bob, now=cast.now).why_not == eligibility.BEHIND
    with pytest.raises(services.NotEligible):
        house.say(cast.bob, row)

    # Whoever could make it ask is not freed by handing it over, and whoever takes it is barred.
    assert selectors.standing(row, cast.carol, now=cast.now).may
    Agent.objects.filter(pk=bot.pk).update(backup_owner=cast.carol)
    for person in (cast.bob, cast.carol):
        assert selectors.standing(row, person, now=cast.now).why_not == eligibility.BEHIND


def test_r15_an_account_linked_to_the_agents_backup_decides_neither(house, as_):
    cast = house.cast
    bot = builders.agent(cast, backup_owner=cast.mallory)
    cast.mallory.email_key = cast.bob.email_key
    cast.mallory.save()
    row = Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])

    assert selectors.standing(row, cast.bob, now=cast.now).why_not == eligibility.BEHIND


def test_the_digest_covers_who_asked(house, as_, bot):
    row = Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])
    before = services.asking.material(row)

    row.asked_by_label = "another-bot"

    assert before["asked_by"] == {"kind": "agent", "id": str(bot.pk), "label": "refund-bot"}
    assert services.asking.material(row) != before
