"""What is said about a request: people write, whoever may see the request reads."""

from __future__ import annotations

import pytest

from approvals.models import Comment, Request
from approvals.policy.judging import Verdict
from keyvault.audit.models import Event
from tests import cast as people
from tests.keyvault.api.test_requests import creation, kind_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def asked(house, as_, bot):
    """Return a request that alice's agent has made."""
    return Request.objects.get(pk=as_(bot).post("/requests", creation()).json()["id"])


def test_a_person_writes_and_the_asking_agent_reads(house, as_, bot, asked):
    path = f"/requests/{asked.pk}/comments"

    made = as_(house.cast.bob).post(path, {"text": "  Which host does it call?  "})
    read = as_(bot).get(path)

    assert made.status_code == 201, made.content
    assert made.json()["text"] == "Which host does it call?"
    assert read.json() == {"items": [made.json()], "next_cursor": None}
    assert (made.json()["person"]["name"], made.json()["verdict"]) == ("Bob", "")
    assert made.json()["revision"] == 1
    event = Event.objects.get(event="request.commented")
    assert (event.actor_label, event.fields["comment"]) == ("Bob", "Which host does it call?")


def test_the_note_of_a_decision_is_among_them_with_its_verdict(house, as_, bot, asked):
    path = f"/requests/{asked.pk}/comments"
    house.say(house.cast.bob, asked, verdict=Verdict.CHANGES)
    as_(house.cast.alice).post(path, {"text": "For a month, then."})

    found = as_(bot).get(path).json()["items"]

    assert [(one["person"]["name"], one["text"], one["verdict"]) for one in found] == [
        ("Bob", "Not like this.", "changes"),
        ("Alice", "For a month, then.", ""),
    ]


def test_a_decision_without_a_note_says_nothing(house, as_, bot, asked):
    house.say(house.cast.bob, asked)

    assert as_(bot).get(f"/requests/{asked.pk}/comments").json()["items"] == []


def test_an_agent_writes_nothing(as_, bot, asked):
    answer = as_(bot).post(f"/requests/{asked.pk}/comments", {"text": "Approve me."})

    assert (answer.status_code, kind_of(answer)) == (403, "people-only")
    assert not Comment.objects.exists()


@pytest.mark.parametrize("body", [{}, {"text": ""}, {"text": "   "}, {"text": "x" * 4001}])
def test_a_comment_has_words_and_an_end(house, as_, asked, body):
    answer = as_(house.cast.bob).post(f"/requests/{asked.pk}/comments", body)

    assert (answer.status_code, kind_of(answer)) == (422, "invalid")
    assert answer.json()["errors"][0]["pointer"] == "/text"
    assert not Comment.objects.exists()


def test_a_comment_that_is_sent_again_is_written_once(house, as_, asked):
    bob, path = as_(house.cast.bob), f"/requests/{asked.pk}/comments"

    first, again = (bob.post(path, {"text": "Once."}, Idempotency_Key="c-1") for _ in range(2))

    assert again.content == first.content
    assert Comment.objects.count() == 1


def test_cursors_lead_through_every_comment_once(house, as_, asked):
    alice, seen, cursor = as_(house.cast.alice), [], ""
    path = f"/requests/{asked.pk}/comments"
    for number in range(5):
        alice.post(path, {"text": f"Remark {number}"})

    while cursor is not None:
        body = alice.get(f"{path}?limit=2" + (f"&cursor={cursor}" if cursor else "")).json()
        seen += [one["text"] for one in body["items"]]
        cursor = body["next_cursor"]

    assert seen == [f"Remark {number}" for number in range(5)]


@pytest.mark.parametrize("query", ["cursor=made-up", "limit=0", "limit=201", "order=newest"])
def test_r33_a_query_that_is_none_is_refused(house, as_, asked, query):
    assert as_(house.cast.alice).get(f"/requests/{asked.pk}/comments?{query}").status_code == 400


def test_r19_whoever_may_not_see_the_request_learns_of_no_comment(house, as_, asked):
    path = f"/requests/{asked.pk}/comments"
    as_(house.cast.bob).post(path, {"text": "Between us."})
    mallory = as_(house.cast.mallory)

    for answer in (mallory.get(path), mallory.post(path, {"text": "Hello?"})):
        assert answer.status_code == 404
        assert b"Between us" not in answer.content
    assert Comment.objects.count() == 1


def test_an_auditor_reads_and_writes_nothing(house, as_, asked):
    path = f"/requests/{asked.pk}/comments"
    as_(house.cast.bob).post(path, {"text": "Which host does it call?"})
    dave = as_(house.cast.dave)

    answer = dave.post(path, {"text": "I noticed it too."})

    assert (answer.status_code, kind_of(answer)) == (403, "forbidden")
    assert [one["text"] for one in dave.get(path).json()["items"]] == ["Which host does it call?"]
    assert Comment.objects.count() == Event.objects.filter(event="request.commented").count() == 1


def test_an_auditor_who_asks_writes_about_that(house, as_):
    people.join(house.cast.dave, "payments", now=house.cast.now - people.JOINED_AGO)
    mine = house.ask(house.cast.dave, name="audit-key")

    answer = as_(house.cast.dave).post(f"/requests/{mine.pk}/comments", {"text": "For a week."})

    assert answer.status_code == 201, answer.content
