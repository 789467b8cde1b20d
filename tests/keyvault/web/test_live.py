from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from approvals.ports import NotVisible
from keyvault.inventory import services as inventory
from keyvault.web import live
from tests import cast as people
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db


def _version(person, topic, now):
    return live.version(person, topic, now=now)


def test_a_new_request_moves_the_queue_of_who_decides_and_of_nobody_else(house):
    before = [_version(user, "queue", house.now) for user in (house.cast.bob, house.cast.dave)]

    house.ask()

    after = [_version(user, "queue", house.now) for user in (house.cast.bob, house.cast.dave)]
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_decision_moves_the_request(house):
    request = house.ask()
    before = _version(house.cast.alice, f"request:{request.pk}", house.now)

    house.say(house.cast.bob, request)

    assert _version(house.cast.alice, f"request:{request.pk}", house.now) != before


def test_nothing_moves_while_nothing_happens(house):
    request = house.ask()
    topics = ["queue", "mine", f"request:{request.pk}", "trust", "jobs"]

    first = [_version(house.cast.bob, topic, house.now) for topic in topics]

    assert [_version(house.cast.bob, topic, house.now) for topic in topics] == first


def test_a_change_of_a_key_moves_the_key(cast, now):
    key = builders.live(cast)
    before = _version(cast.alice, f"key:{key.name}", now)

    with transaction.atomic():
        inventory.revoke(
            key_id=key.pk, request_id=uuid4(), actor=builders.TESTS, now=now + timedelta(hours=1)
        )

    assert _version(cast.alice, f"key:{key.name}", now) != before


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "weather",
        "request:",
        "request:nonsense",
        f"request:{uuid4()}",
        "key:none",
        "jobs:1:2\x00",
    ],
)
def test_a_topic_that_is_unknown_or_hidden_is_left_out(cast, client_for, topic):
    response = client_for(cast.mallory).get("/live/", {"t": f"mine,{topic}"})

    assert response.status_code == 200
    assert set(response.json()) - {topic} == {"mine"}


def test_another_persons_request_has_no_version(house):
    request = house.ask()

    with pytest.raises(NotVisible):
        _version(house.cast.mallory, f"request:{request.pk}", house.now)


def test_one_poll_takes_eight_topics(cast, client_for):
    response = client_for(cast.alice).get("/live/", {"t": ",".join(["none"] * 8 + ["mine"])})

    assert response.json() == {}


def test_a_visitor_gets_no_versions(client, cast):
    assert client.get("/live/", {"t": "queue"}).status_code == 302


def test_a_right_that_was_lost_ends_with_the_next_poll(cast, client_for, now):
    key = builders.live(cast)
    client = client_for(cast.carol)
    assert client.get("/live/", {"t": f"key:{key.name}"}).json()

    people.leave(cast.carol, "payments", now=now)

    assert client.get("/live/", {"t": f"key:{key.name}"}).json() == {}
