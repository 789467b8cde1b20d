"""Filters mean what they say, also negated; cursors hold their place; histories are about one thing."""

import uuid

import pytest
from django.db.models import Func, IntegerField
from django.utils import timezone

from approvals.ports import Actor, Subject
from keyvault.audit import denials, filters, histogram, selectors, sequencer
from keyvault.audit.events import EVENTS
from keyvault.audit.models import Event
from keyvault.audit.query import parse
from keyvault.audit.sentences import SENTENCES, sentence

pytestmark = pytest.mark.django_db

REQUEST = uuid.UUID(int=5)
BOT = Actor("agent", "agent-1", "repo-janitor")


@pytest.fixture
def mixed(write):
    """Ten events that differ in one way each, nine of them placed."""
    write(3)
    write(1, outcome="refused")
    write(1, actor=BOT)
    write(1, subject=Subject("connection", "c-1", "main-db"), request_id=uuid.UUID(int=6))
    write(1, event="attempt.written", fields={"provider": "postgresql", "act": "create"})
    write(1, request_id=REQUEST)
    write(1, event="request.decided", fields={"method": "totp", "verdict": "approve"})
    sequencer.drain()
    write(1)


def _found(raw):
    query = filters.read(raw, now=timezone.now())
    assert query.problems == ()
    return selectors.matches(query).count()


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        ("", 10),
        ("time:all", 10),
        ("-time:all", 0),
        ("time:1m", 10),
        ("-time:7d", 0),
        ("time:<2020-01-01", 0),
        ('actor:"Alice Ames"', 9),
        ("actor:Alice*", 9),
        ("-actor:repo-janitor", 9),
        ("actor:agent-1,nobody", 1),
        ("actor-kind:agent", 1),
        ("agent:repo*", 1),
        ("result:refused", 1),
        ("result:ok,refused", 10),
        ("action:request.*", 9),
        ("-action:request.commented", 2),
        ("key:billing-reader", 9),
        ("-key:billing-reader", 1),
        ("connection:main-db", 1),
        ("target-kind:connection", 1),
        ("provider:postgresql", 1),
        ("provider:post*", 1),
        ("-provider:postgresql", 9),
        ("mfa:totp", 1),
        (f"request:{REQUEST}", 1),
        (f"-request:{REQUEST}", 9),
        ("seq:1..3", 3),
        ("#4", 1),
        ("-seq:1..3", 7),
        ("janitor", 1),
        ('-"janitor"', 9),
        ("%", 0),
        ("ip:192.0.2.1", 0),
    ],
)
def test_a_filter_finds(raw, count, mixed):
    assert _found(raw) == count


def test_a_key_is_found_with_the_decisions_about_it(write):
    write(1, request_id=REQUEST)
    asked = Subject("request", str(REQUEST), "REQ-1000")
    write(1, subject=asked, request_id=REQUEST)
    write(1, subject=Subject("request", str(uuid.UUID(int=9)), "REQ-1001"), request_id=None)

    assert _found("key:billing-reader") == 2
    assert _found("-key:billing-reader") == 1


def test_every_name_of_the_language_has_a_meaning(mixed):
    for name, kind in filters.NAMES.items():
        value = {"choice": next(iter(kind.choices), ""), "number": "1", "time": "7d"}
        assert _found(f"{name}:{value.get(kind.kind, 'x')}") >= 0


def test_a_query_with_problems_is_never_run():
    query = parse("actr:x", names=filters.NAMES, now=timezone.now())

    with pytest.raises(filters.Unanswerable):
        selectors.search(query)


def test_histories_are_about_one_thing(mixed):
    assert [line.subject_label for line in selectors.for_subject("connection", "c-1")] == [
        "main-db"
    ]
    assert len(selectors.for_request(REQUEST)) == 1
    newest = selectors.for_subject("key", "22222222-2222-4222-8222-222222222222", limit=2)
    assert [line.seq is None for line in newest] == [True, False]
    assert newest[0].at > newest[1].at


def test_events_of_one_moment_are_neither_lost_nor_shown_twice(write):
    write(7)
    at = timezone.now()
    Event.objects.bulk_create(
        Event(
            at=at, acted_at=at, event="request.withdrawn", actor_kind="user", actor_id="a",
            actor_label="a", subject_kind="key", subject_id="k", subject_label="k",
        )
        for _ in range(7)
    )  # fmt: skip
    query = filters.read("time:all", now=timezone.now())
    seen, page = [], selectors.search(query, limit=4)
    seen += page.rows
    while page.older:
        page = selectors.search(query, after=page.older, limit=4)
        seen += page.rows

    assert len(seen) == len({line.id for line in seen}) == 14
    assert page.newer


def test_the_histogram_counts_every_match(mixed):
    query = filters.read("time:1d", now=timezone.now())
    found = histogram.histogram(query, now=timezone.now())

    assert (found.total, found.refused) == (10, 1)
    assert len(found.counts) == histogram.COLUMNS
    assert (
        histogram.histogram(filters.read("time:all", now=timezone.now()), now=timezone.now()).total
        == 10
    )


def test_a_picture_that_takes_too_long_is_left_out(mixed, monkeypatch):
    monkeypatch.setattr(histogram, "PATIENCE_MS", 1)
    monkeypatch.setattr(histogram, "_WidthBucket", _slow)
    query = filters.read("time:1d", now=timezone.now())

    assert histogram.histogram(query, now=timezone.now()) is None
    assert _found("") == 10


def _slow(*_):
    return Func(template="(SELECT 1 FROM pg_sleep(1))", output_field=IntegerField())


def test_every_event_has_a_sentence_and_no_other():
    assert set(EVENTS) - set(SENTENCES) == set()


def test_a_sentence_survives_what_is_missing():
    assert sentence("policy.saved", actor="", subject="x", fields={}) == (
        "Somebody saved version … of policy …."
    )
    assert sentence("old.name", actor="A", subject="b", fields={}) == "A: old.name on b."
    assert "{" in sentence("request.failed", actor="a", subject="{x}", fields={"sentence": "{y}"})


def test_r54_refusals_are_counted_into_one_event():
    now = timezone.now()
    for number in range(40):
        denials.count("key", actor=BOT, example=f"/keys/{number}/", now=now)
    denials.count("people", actor=BOT, example="/people/", now=now)

    assert denials.flush(now) == 0
    assert denials.flush(now + denials.WINDOW) == 2
    assert denials.flush(now + denials.WINDOW) == 0
    rows = Event.objects.filter(event="access.refused").order_by("-fields__count")
    assert [row.fields["count"] for row in rows] == [40, 1]
    assert rows[0].fields["example"] == "/keys/0/"
    assert rows[0].outcome == "refused"
    assert rows[0].actor_kind == "agent"
