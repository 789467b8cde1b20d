"""The pages over HTTP, with real sessions, real codes and the real ledger."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from django.urls import reverse

from approvals import selectors, services
from approvals.models import Decision
from keyvault.accounts.directory import Directory
from tests import cast as people

pytestmark = pytest.mark.django_db


@pytest.fixture
def browse(house, client_for):
    """Return a function that opens a page as somebody."""

    def get(user, name, *args, **query):
        return client_for(user).get(reverse(name, args=args), query)

    return get


@pytest.fixture
def post(house, client_for, totp):
    """Return a function that posts a decision as somebody, with a correct code unless told."""

    def send(user, request, verdict="approve", *, client=None, **fields):
        body = {
            "verdict": verdict,
            "plan_digest": request.plan_digest,
            "comment": "" if verdict == "approve" else "No.",
            "otp_code": totp(user),
        } | fields
        body = {name: value for name, value in body.items() if value is not None}
        client = client or client_for(user)
        return client.post(reverse("request-decide", args=[request.pk]), body)

    return send


def test_the_request_page_says_what_who_and_why(house, browse):
    request = house.ask(reason="It is too grey.")
    page = browse(house.cast.bob, "request", request.pk)
    text = page.content.decode()
    assert page.status_code == 200
    for words in (
        "Paint the north wall green.",
        "It is too grey.",
        "Security",
        "The wall is wet for an hour.",
        "Paint it again.",
        request.plan_digest,
        "different teams",
    ):
        assert words in text, words
    assert "checked" not in text, "no decision is preselected"


def test_the_step_up_page_comes_between_the_decision_and_its_record(house, post):
    request = house.ask()
    page = post(house.cast.bob, request, otp_code=None)
    assert page.status_code == 200
    assert b"Paint the north wall green." in page.content
    assert not Decision.objects.exists()


def test_a_decision_with_a_code_is_recorded_and_shown(house, post, browse):
    request = house.ask()
    answer = post(house.cast.bob, request)
    assert answer.status_code == 302, answer.content.decode()[-3000:]
    assert Decision.objects.get().verdict == "approve"
    assert b"More people must decide" not in browse(house.cast.carol, "request", request.pk).content
    assert (
        b"You approved on this revision already."
        in browse(house.cast.bob, "request", request.pk).content
    )


def test_the_page_records_what_it_showed(house, browse, post):
    request = house.ask()
    page = browse(house.cast.bob, "request", request.pk)
    post(house.cast.bob, request, seen=page.context["seen"])
    seen = Decision.objects.get().seen
    assert [point["points"] for point in seen["risk"]] == [30, -5]


def test_a_forged_record_of_what_was_shown_counts_as_none(house, post):
    request = house.ask()
    post(house.cast.bob, request, seen="made:up")
    assert Decision.objects.get().seen == {}


def test_r14_the_conflict_page_shows_both_states_the_diff_and_keeps_the_note(house, post):
    request = house.ask()
    house.edit(request, colour="blue")
    answer = post(house.cast.bob, request, comment="I like green.")
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "has changed since you opened it" in text
    assert "green" in text
    assert "blue" in text
    assert "I like green." in text
    assert "checked" not in text
    assert not Decision.objects.exists()


def test_a_decision_after_the_end_answers_409_and_offers_the_note_as_a_comment(house, post):
    request = house.ask()
    house.world.watchers = frozenset({house.cast.carol.pk})
    house.say(house.cast.bob, request, "reject")
    answer = post(house.cast.carol, request, comment="Too late?")
    assert answer.status_code == 409
    assert b"settled while you were reading" in answer.content
    assert b"Too late?" in answer.content


def test_r18_a_replayed_post_is_idempotent(house, post):
    request = house.ask()
    for _ in range(3):
        assert post(house.cast.bob, request).status_code == 302
    assert Decision.objects.count() == 1


def test_r19_hidden_and_missing_requests_answer_alike(house, browse, client_for):
    request = house.ask()
    hidden = browse(house.cast.mallory, "request", request.pk)
    missing = browse(house.cast.mallory, "request", uuid4())
    assert hidden.status_code == missing.status_code == 404
    client = client_for(house.cast.mallory)
    for name in ("request-decide", "request-withdraw", "request-comment", "request-renew"):
        answers = {
            client.post(reverse(name, args=[pk]), {"text": "x"}).status_code
            for pk in (request.pk, uuid4())
        }
        assert answers == {404}, name


def test_the_requester_sees_no_form_but_the_reason_and_can_withdraw(house, browse, client_for):
    request = house.ask()
    text = browse(house.cast.alice, "request", request.pk).content.decode()
    assert 'name="verdict"' not in text
    assert "Withdraw" in text
    client = client_for(house.cast.alice)
    assert client.post(reverse("request-withdraw", args=[request.pk])).status_code == 302
    request.refresh_from_db()
    assert request.state == "withdrawn"


def test_who_may_not_decide_reads_why_instead_of_a_form(house, browse):
    request = house.ask()
    people.join(house.cast.grace, "security", now=house.later(seconds=1))
    text = browse(house.cast.grace, "request", request.pk).content.decode()
    assert 'name="verdict"' not in text
    assert "You joined the deciding group after this request was made" in text


def test_a_person_who_may_not_decide_and_posts_anyway_is_told_why(house, post):
    request = house.ask()
    answer = post(house.cast.alice, request)
    assert answer.status_code == 403
    assert b"You asked for this" in answer.content


def test_a_decision_without_a_choice_or_a_needed_note_keeps_what_was_typed(house, post):
    request = house.ask()
    for fields in ({"verdict": ""}, {"verdict": "reject", "comment": ""}):
        answer = post(house.cast.bob, request, **fields)
        assert answer.status_code == 422, fields
        assert b"error-summary" in answer.content
    kept = post(house.cast.bob, request, verdict="", comment="half a thought")
    assert b"half a thought" in kept.content


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "[x](javascript:alert(1))",
        "\x1b[31mred\x1b[0m",
        "right\u202eleft",
        "zero\u200bwidth",
        '" onload="x',
    ],
)
def test_r22_hostile_text_is_inert_everywhere(house, browse, text):
    request = house.ask(reason=text)
    services.comment(request_id=request.pk, person=house.cast.bob, text=text, now=house.now)
    house.say(house.cast.bob, request, "changes", comment=text)
    for user in (house.cast.alice, house.cast.bob):
        page = browse(user, "request", request.pk).content.decode()
        assert "<script>alert" not in page
        assert 'href="javascript:' not in page
        for raw in ("\u202e", "\u200b", "\x1b"):
            assert raw not in page
        assert '" onload="' not in page


def test_r22_a_comment_above_4000_characters_is_refused(house, client_for):
    request = house.ask()
    answer = client_for(house.cast.bob).post(
        reverse("request-comment", args=[request.pk]), {"text": "x" * 4001}
    )
    assert answer.status_code == 422
    assert not request.comments.exists()


def test_an_auditor_reads_a_request_and_writes_nothing_about_it(house, browse, client_for):
    request, dave = house.ask(), house.cast.dave
    house.world.watchers = frozenset({dave.pk, house.cast.grace.pk})
    address = reverse("request-comment", args=[request.pk])

    assert address in browse(house.cast.grace, "request", request.pk).content.decode()
    assert address not in browse(dave, "request", request.pk).content.decode()
    for text in ("I noticed it too.", ""):
        answer = client_for(dave).post(address, {"text": text})
        assert answer.status_code == 403
        assert b"You read what others ask" in answer.content
    assert not request.comments.exists()


def test_an_auditor_who_decides_writes_too_and_no_longer_when_somebody_else_has(
    house, browse, client_for, post
):
    request, dave = house.ask(), house.cast.dave
    people.join(dave, "security", now=house.now - people.JOINED_AGO)
    house.world.watchers = frozenset({dave.pk})
    address = reverse("request-comment", args=[request.pk])

    assert client_for(dave).post(address, {"text": "Which green?"}).status_code == 302
    house.say(house.cast.bob, request, "reject")
    late = post(dave, request, comment="Too late?")
    assert late.status_code == 409
    assert b"Too late?" in late.content
    assert address not in late.content.decode()
    assert client_for(dave).post(address, {"text": "Too late?"}).status_code == 403
    assert [comment.text for comment in request.comments.all()] == ["Which green?"]


def test_r22_the_page_names_the_target_by_id(house, browse):
    request = house.ask(wall="n\u043erth")
    text = browse(house.cast.bob, "request", request.pk).content.decode()
    assert "Exactly which" in text


def test_a_world_that_moved_is_shown_before_a_code_is_spent(house, browse, client_for):
    request = house.ask()
    house.world.colour = "yellow"
    assert b"The world has moved" in browse(house.cast.bob, "request", request.pk).content
    client = client_for(house.cast.alice)
    assert client.post(reverse("request-renew", args=[request.pk])).status_code == 302
    assert b"The world has moved" not in browse(house.cast.bob, "request", request.pk).content


def test_drift_at_execution_is_shown_on_the_page(house, browse):
    request = house.approved()
    house.world.colour = "yellow"
    house.work(request)
    assert (request.state, request.end_code) == ("invalidated", "drift")
    text = browse(house.cast.alice, "request", request.pk).content.decode()
    assert "What had changed since it was approved" in text
    assert "yellow" in text


def test_the_queue_page_lists_and_empties(house, browse):
    assert b"Queue clear" in browse(house.cast.bob, "approvals").content
    request = house.ask()
    assert request.label.encode() in browse(house.cast.bob, "approvals").content
    assert request.label.encode() not in browse(house.cast.mallory, "approvals").content
    house.say(house.cast.bob, request)
    assert b"You decided last" in browse(house.cast.bob, "approvals").content


def test_my_requests_shows_only_mine(house, browse):
    request = house.ask()
    assert request.label.encode() in browse(house.cast.alice, "requests").content
    assert request.label.encode() not in browse(house.cast.bob, "requests").content
    assert b"You have asked for nothing yet" in browse(house.cast.bob, "requests").content
    assert browse(house.cast.alice, "requests", before="'; drop").status_code == 200


def test_every_state_has_a_page(house, browse):
    for state, ask in {
        "done": lambda: house.work(house.approved(wall="done")),
        "rejected": lambda: house.say(house.cast.bob, house.ask(wall="no"), "reject").request,
        "changes": lambda: house.say(house.cast.bob, house.ask(wall="hm"), "changes").request,
        "approved": lambda: house.approved(wall="soon"),
    }.items():
        request = ask()
        for user in (house.cast.alice, house.cast.bob):
            assert browse(user, "request", request.pk).status_code == 200, state


def test_a_receipt_downloads_as_json_for_those_who_may_see_the_request(house, browse):
    request = house.ask()
    decision = house.say(house.cast.bob, request)
    answer = browse(house.cast.alice, "request-receipt", request.pk, decision.pk)
    document = json.loads(answer.content)
    assert document["receipt"]["plan_digest"] == request.plan_digest
    assert "attachment" in answer["Content-Disposition"]
    refused = browse(house.cast.mallory, "request-receipt", request.pk, decision.pk)
    assert refused.status_code == 404
    assert browse(house.cast.alice, "request-receipt", request.pk, uuid4()).status_code == 404


def test_the_only_administrator_may_decide_alone_and_is_told_so(house, browse, monkeypatch):
    monkeypatch.setattr(Directory, "solo", lambda _self: True)
    request = house.ask(house.cast.frank, environment="dev")
    text = browse(house.cast.frank, "request", request.pk).content.decode()
    assert "You are the only administrator" in text
    assert 'name="verdict"' in text
    assert "Withdraw" in text


def test_the_conflict_page_shows_the_risk_beside_the_form_it_offers(house, post):
    request = house.ask()
    house.edit(request, colour="blue")
    answer = post(house.cast.bob, request)
    assert b"It is a wall" in answer.content
    assert b"The wall is wet for an hour." in answer.content
    assert answer.context["seen"]


def test_queue_count_is_the_length_of_the_queue(house):
    house.ask()
    assert selectors.queue_count(house.cast.bob) == len(selectors.queue(house.cast.bob)) == 1
