"""Who uses a key, declared as code: the list is put, read and kept apart from what others change."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.utils import timezone

from approvals.models import Request
from keyvault.api import limits
from keyvault.audit.models import Event
from keyvault.dependents import declared
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Health, Probe
from keyvault.inventory.models import Key
from keyvault.rotation.models import Rotation
from tests.keyvault.agents import builders
from tests.keyvault.api.conftest import running
from tests.keyvault.api.test_requests import kind_of

pytestmark = pytest.mark.django_db


DEPENDENTS = "/keys/ledger-reader/dependents"


def put(caller, *rows, status=200):
    answer = caller.call("PUT", f"/api/v1{DEPENDENTS}", {"dependents": list(rows)})
    assert answer.status_code == status, answer.content
    return answer.json()


def entry(name="refund-bot", **more):
    usual = {"name": name, "agent": name, "health": "reports", "wave": 1, "cache_s": 60}
    return usual | more


HAND = {"name": "Batch host", "health": "by_hand"}


def test_a_list_that_is_put_is_the_list_that_is_read(house, as_, key, bot):
    alice = as_(house.cast.alice)

    made = put(alice, entry(), HAND)

    read = alice.get(DEPENDENTS)
    assert read.json() == made
    assert [(row["name"], row["agent"], row["wave"]) for row in made["items"]] == [
        ("Batch host", None, 0),
        ("refund-bot", "refund-bot", 1),
    ]
    assert alice.get(DEPENDENTS, If_None_Match=read["ETag"]).status_code == 304
    assert Event.objects.filter(event="dependent.registered").count() == 2
    put(alice, entry(), HAND)
    assert Event.objects.filter(event__startswith="dependent.").count() == 2, "nothing changed"


def test_what_others_declare_after_a_list_was_put_is_not_among_what_it_answers(
    house, as_, key, bot, monkeypatch
):
    alice, plain = as_(house.cast.alice), declared.replace

    def slow(**more):
        made = plain(**more)
        with transaction.atomic():
            dependents.register(
                key=key,
                name="Theirs",
                agent_id=None,
                health=Health.BY_HAND,
                now=house.now,
                actor=builders.TESTS,
            )
        return made

    monkeypatch.setattr(declared, "replace", slow)
    answer = alice.call("PUT", f"/api/v1{DEPENDENTS}", {"dependents": [HAND]})
    monkeypatch.undo()

    assert [row["name"] for row in answer.json()["items"]] == ["Batch host"]
    body = {"dependents": [HAND, entry()]}
    refused = alice.call("PUT", f"/api/v1{DEPENDENTS}", body, If_Match=answer["ETag"])
    assert (refused.status_code, kind_of(refused)) == (412, "changed")
    names = Dependent.objects.filter(ended_at=None).values_list("name", flat=True)
    assert sorted(names) == ["Batch host", "Theirs"]


def test_what_changes_is_registered_anew_and_what_is_left_out_is_ended(house, as_, key, bot):
    alice = as_(house.cast.alice)
    put(alice, entry(), HAND)

    put(alice, entry(wave=0))

    alive = Dependent.objects.get(ended_at=None)
    assert (alive.name, alive.wave) == ("refund-bot", 0)
    ended = Event.objects.filter(event="dependent.ended").values_list("fields__dependent")
    assert sorted(name for (name,) in ended) == ["Batch host", "refund-bot"]


def test_who_is_asked_over_http_is_declared_and_its_address_is_a_request(house, as_, key, bot):
    alice = as_(house.cast.alice)
    made = put(alice, {"name": "Orders", "health": "probed"})
    assert (made["items"][0]["health"], made["items"][0]["probe"]) == ("probed", None)
    body = {
        "kind": "probe.add",
        "key": key.name,
        "name": "Orders",
        "address": "https://orders.example.com/health",
        "reason": "It says there which version it has.",
    }

    asked = alice.post("/requests", body)
    assert asked.status_code == 201
    again = alice.post("/requests", body)
    assert (again.status_code, kind_of(again)) == (409, "conflict")
    plain = alice.post("/requests", body | {"address": "http://orders.example.com/"})
    assert (plain.status_code, kind_of(plain)) == (409, "conflict")
    house.say(house.cast.bob, Request.objects.get(kind="probe.add"))
    house.work()

    assert alice.get(DEPENDENTS).json()["items"][0]["probe"] == {
        "address": "https://orders.example.com/health",
        "answer": "",
        "version": None,
        "asked_at": None,
    }
    put(alice, {"name": "Orders", "health": "probed"})
    assert Probe.objects.filter(ended_at=None).count() == 1, "what is declared again stays asked"


def test_an_agent_has_nobody_asked_over_http(house, as_, reader, key):
    body = {"kind": "probe.add", "key": key.name, "name": "Orders", "address": "https://a.example/"}

    answer = as_(reader).post("/requests", body | {"reason": "I would like to."})

    assert (answer.status_code, kind_of(answer)) == (403, "people-only")


def test_a_running_rotation_goes_on_with_those_it_began_with(house, as_, reader, key):
    alice = as_(house.cast.alice)
    rotation_id = running(house, alice)

    put(alice, HAND)

    parts = alice.get(f"/rotations/{rotation_id}").json()["dependents"]
    assert [part["name"] for part in parts] == ["refund-bot"]
    as_(reader).post(f"/rotations/{rotation_id}/confirm", {"version": 2})
    house.work()
    assert Rotation.objects.get().state == "draining"


def test_who_was_discovered_becomes_registered(house, as_, key, bot):
    with transaction.atomic():
        dependents.register(
            key=key,
            name=bot.name,
            agent_id=bot.pk,
            health=Health.READS,
            is_discovered=True,
            now=house.now,
            actor=builders.TESTS,
        )
    alice = as_(house.cast.alice)
    assert alice.get(DEPENDENTS).json()["items"][0]["is_discovered"] is True

    made = put(alice, entry(health="reads", wave=0, cache_s=0))

    assert [row["is_discovered"] for row in made["items"]] == [False]


@pytest.mark.parametrize(
    ("rows", "pointer"),
    [
        ([entry(), entry()], "/dependents/1/name"),
        ([entry(), entry(name="Another", agent="refund-bot")], "/dependents/1/agent"),
        ([entry(agent="nobody-here")], "/dependents/0/agent"),
        ([entry(agent="")], "/dependents/0/health"),
        ([entry(name=" ")], "/dependents/0/name"),
        ([entry(wave=-1)], "/dependents/0/wave"),
        ([entry(health="prayer")], "/dependents/0/health"),
        ([entry(is_discovered=True)], "/dependents/0/is_discovered"),
    ],
)
def test_a_line_that_cannot_be_is_refused_at_its_field(house, as_, key, bot, rows, pointer):
    answer = put(as_(house.cast.alice), *rows, status=422)

    assert pointer in {fault["pointer"] for fault in answer["errors"]}
    assert not Dependent.objects.exists()


def test_r32_an_agent_that_the_caller_does_not_see_cannot_be_named(house, as_, key):
    builders.agent(
        house.cast,
        "their-bot",
        owner=house.cast.mallory,
        backup_owner=None,
        team=house.cast.security.group,
    )

    put(as_(house.cast.alice), entry("their-bot"), status=422)


def test_an_agent_changes_no_list(house, as_, reader):
    answer = put(as_(reader), status=403)

    assert answer["type"].endswith(":people-only")
    limits.buckets.clear()
    assert [row["name"] for row in as_(reader).get(DEPENDENTS).json()["items"]] == ["refund-bot"]


def test_a_revoked_key_has_no_dependents_to_declare(house, as_, key):
    Key.objects.update(state="revoked", revoked_at=timezone.now())

    assert put(as_(house.cast.alice), HAND, status=409)["type"].endswith(":conflict")
