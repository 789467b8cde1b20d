"""The query language: what it means, and that it never widens what was asked."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keyvault.audit.query import MAX_CHARS, Name, Span, Word, _tokens, parse

NOW = datetime(2026, 11, 24, 14, 30, tzinfo=UTC)
NAMES = {
    "actor": Name("word"),
    "action": Name("choice", frozenset({"request.decided", "request.done", "secret.revealed"})),
    "result": Name("choice", frozenset({"ok", "refused", "error"})),
    "time": Name("time"),
    "seq": Name("number"),
}


def _parse(raw, default=""):
    return parse(raw, names=NAMES, now=NOW, default=default)


def _one(raw):
    query = _parse(raw)
    assert query.problems == ()
    (term,) = query.terms
    return term


def _day(day, month=11):
    return datetime(2026, month, day, tzinfo=UTC)


def test_a_term_has_a_name_and_values():
    term = _one('actor:alice,"Bob Beck",ca*')

    assert term.name == "actor"
    assert term.values == (Word("alice"), Word("Bob Beck"), Word("ca", is_prefix=True))
    assert not term.is_negated


def test_a_quoted_value_is_taken_as_it_stands():
    assert _one(r'actor:"a, \"b\" c*"').values == (Word('a, "b" c*'),)


def test_a_minus_negates():
    assert _one("-actor:alice").is_negated
    assert _one('-"free text"').is_negated


def test_text_and_sequence_have_their_own_forms():
    assert _one('"free text"').values == (Word("free text"),)
    assert _one("billing").name == "text"
    assert _one("#4812").name == "seq"
    assert _one("#4812").values == (Span(4812, 4813),)


@pytest.mark.parametrize(
    ("raw", "low", "high"),
    [
        ("time:7d", NOW - timedelta(days=7), None),
        ("time:90m", NOW - timedelta(minutes=90), None),
        ("time:2w", NOW - timedelta(weeks=2), None),
        ("time:2026-11-24", _day(24), _day(25)),
        ("time:2026-11-01..2026-11-24", _day(1), _day(25)),
        ("time:>=2026-11-24", _day(24), None),
        ("time:>2026-11-24", _day(25), None),
        ("time:<2026-11-24", None, _day(24)),
        ("time:<=2026-11-24", None, _day(25)),
        (
            "time:2026-11-24T10:00+02:00..2026-11-25",
            datetime(2026, 11, 24, 8, tzinfo=UTC),
            _day(26),
        ),
        ("time:all", None, None),
        ("seq:5..9", 5, 10),
        ("seq:>5", 6, None),
    ],
)
def test_ranges_are_half_open(raw, low, high):
    assert _one(raw).values == (Span(low, high),)


@pytest.mark.parametrize(
    ("raw", "sentence", "nearest"),
    [
        ("actr:alice", "actr: is not a filter.", "actor:alice"),
        ("zzzzzz:alice", "zzzzzz: is not a filter.", ""),
        ("action:request.decidd", "action: has no value request.decidd.", "action:request.decided"),
        ("action:nothing*", "action: has no value nothing.", ""),
        ("result:refuse", "result: has no value refuse.", "result:refused"),
        ("actor:", "actor: needs a value.", ""),
        ('actor:""', "actor: needs a value.", ""),
        ("actor:a,", "actor: has an empty or unfinished value.", ""),
        ("actor:a,,b", "actor: has an empty or unfinished value.", ""),
        ("actor:*", "A star needs something before it.", ""),
        ('actor:"alice', "", ""),
        ('"', "A quotation mark is missing.", ""),
        ("time:7y", "7y is not a time", ""),
        ("time:2026-13-01", "2026-13-01 is not a time", ""),
        ("time:99999w", "99999w is not a time", ""),
        ("seq:-1", "-1 is not a number", ""),
        ("#12x", "12x is not a number", ""),
        ("seq:1..2..3", "1..2..3 is not a number", ""),
    ],
)
def test_what_has_no_meaning_is_a_problem(raw, sentence, nearest):
    query = _parse(raw)

    assert query.problems
    assert query.problems[0].sentence.startswith(sentence)
    assert query.problems[0].nearest == nearest
    assert query.raw == raw


def test_the_default_stands_until_it_is_overridden():
    assert [term.raw for term in _parse("actor:a", "time:7d").terms] == ["actor:a", "time:7d"]
    assert _parse("actor:a", "time:7d").terms[1].is_default
    assert [term.raw for term in _parse("time:all", "time:7d").terms] == ["time:all"]
    assert [term.raw for term in _parse("#5", "time:7d").terms] == ["#5"]


def test_a_term_can_be_taken_out():
    query = _parse('  actor:"a b"   -result:ok  #5 ')

    assert query.without(query.terms[1]) == 'actor:"a b" #5'


@given(st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=300))
@example('actor:"')
@example("-")
@example("--")
@example(":")
@example("time:0001-01-01..")
@example("time:9999-12-31")
@example("seq:999999999999999999")
def test_no_text_is_dropped_in_silence(raw):
    query = _parse(raw)

    understood = sorted(
        [(term.start, term.raw) for term in query.terms]
        + [(problem.start, problem.raw) for problem in query.problems]
    )
    assert (
        "".join(text for _, text in understood) == "".join(part for part in [*_visible(raw)])
        or len(understood) > 40
    )
    for start, text in understood:
        assert raw[start : start + len(text)] == text


def _visible(raw):
    """Every character of the raw text that stands in a token: all but white space between them."""
    rest = raw
    for token in _tokens(raw):
        before, _, rest = rest.partition(token)
        assert not before.strip()
        yield token
    assert not rest.strip()


@given(st.lists(st.sampled_from(["actor:a", "-result:ok", '"x y"', "#4", "time:7d"]), max_size=8))
def test_taking_terms_out_ends_at_nothing(parts):
    query = _parse(" ".join(parts))
    while query.terms:
        shorter = _parse(query.without(query.terms[0]))
        assert len(shorter.terms) == len(query.terms) - 1
        query = shorter


def test_a_query_has_bounds():
    assert _parse("x" * (MAX_CHARS + 1)).problems
    assert _parse("a " * 41).problems
    assert _parse("a\x00b").problems
    assert _parse("a\ud800b").problems
