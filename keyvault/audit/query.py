"""The query language that page, address, command line and export share (ui/UI.md section 10).

Pure. `term := [-]name:value | "text" | #sequence`. A space means AND, a comma
inside a value OR, a closing `*` any ending, a leading `-` NOT. Nothing is ever
dropped in silence: what cannot be understood becomes a problem with its place
in the raw text, and a query with problems must not be run, because a reader
would see a wider result than was asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

MAX_CHARS, MAX_TERMS = 2000, 40
TEXT_NAME, SEQ_NAME = "text", "seq"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_TOKEN = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s"])+|"')
_PART = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^",])*)(,|$)')
_RELATIVE = re.compile(r"([1-9][0-9]{0,3})(m|h|d|w)")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Unclear(ValueError):
    """A value cannot be understood. `nearest` is what may have been meant, or empty."""

    def __init__(self, sentence: str, nearest: str = "") -> None:
        super().__init__(sentence)
        self.sentence, self.nearest = sentence, nearest


@dataclass(frozen=True, slots=True)
class Word:
    """A value to compare with: whole, or as a beginning when `is_prefix`."""

    text: str
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of moments or numbers; None leaves a side open."""

    low: datetime | int | None = None
    high: datetime | int | None = None


Value = Word | Span


@dataclass(frozen=True, slots=True)
class Name:
    """One qualifier: how its values are read, and the closed list of them if there is one."""

    kind: str  # word, choice, time or number
    choices: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Term:
    """One condition. `raw` is its text, at `start` of the raw query; -1 for a default."""

    name: str
    values: tuple[Value, ...]
    is_negated: bool
    raw: str
    start: int = -1

    @property
    def is_default(self) -> bool:
        """Say whether nobody wrote this term."""
        return self.start < 0


@dataclass(frozen=True, slots=True)
class Problem:
    """A piece of the raw text that has no meaning, and what may have been meant."""

    raw: str
    start: int
    sentence: str
    nearest: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query. `raw` is kept as it was typed."""

    raw: str
    terms: tuple[Term, ...] = ()
    problems: tuple[Problem, ...] = ()

    def without(self, term: Term) -> str:
        """Return the raw text with one term taken out."""
        if term.is_default:
            return self.raw
        kept = self.raw[: term.start] + self.raw[term.start + len(term.raw) :]
        return " ".join(_tokens(kept))

    def named(self, name: str) -> Term | None:
        """Return the first term of that name."""
        return next((term for term in self.terms if term.name == name), None)


class _Piece(NamedTuple):
    raw: str
    start: int


@dataclass(slots=True)
class _Reading:
    names: Mapping[str, Name]
    now: datetime
    terms: list[Term] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse(raw: str, *, names: Mapping[str, Name], now: datetime, default: str = "") -> Query:
    """Parse a query against the names that a page knows. Never raises on any text.

    `default` is a term, for example "time:7d", that holds unless a term of its
    name, or a #sequence, is written.
    """
    reading = _Reading(names=names, now=now)
    if len(raw) > MAX_CHARS:
        too_long = Problem("", 0, f"A query has at most {MAX_CHARS} characters.")
        return Query(raw=raw, problems=(too_long,))
    if _UNSTORABLE.search(raw):
        unstorable = Problem("", 0, "A query holds a character that no name can hold.")
        return Query(raw=raw, problems=(unstorable,))
    pieces = [_Piece(found.group(), found.start()) for found in _TOKEN.finditer(raw)]
    for piece in pieces[:MAX_TERMS]:
        _read(piece, reading)
    for piece in pieces[MAX_TERMS:][:1]:
        _complain(piece, Unclear(f"A query has at most {MAX_TERMS} terms."), reading)
    _add_default(default, reading)
    return Query(raw=raw, terms=tuple(reading.terms), problems=tuple(reading.problems))


def _read(piece: _Piece, reading: _Reading) -> None:
    is_negated = piece.raw.startswith("-") and len(piece.raw) > 1
    body = piece.raw[1:] if is_negated else piece.raw
    try:
        name, values = _condition(body, reading)
    except Unclear as problem:
        _complain(piece, problem, reading)
    else:
        reading.terms.append(Term(name, values, is_negated, piece.raw, piece.start))


def _complain(piece: _Piece, problem: Unclear, reading: _Reading) -> None:
    reading.problems.append(Problem(piece.raw, piece.start, problem.sentence, problem.nearest))


def _condition(body: str, reading: _Reading) -> tuple[str, tuple[Value, ...]]:
    if body.startswith("#"):
        return SEQ_NAME, (_number(body[1:], reading.now),)
    head, colon, rest = body.partition(":")
    if body.startswith('"') or not colon:
        return TEXT_NAME, (_word(body),)
    if head not in reading.names:
        nearest = _nearest(head, reading.names)
        raise Unclear(f"{head}: is not a filter.", f"{nearest}:{rest}" if nearest else "")
    known = reading.names[head]
    return head, tuple(_value(part, head, known, reading.now) for part in _parts(rest, head))


def _parts(rest: str, name: str) -> Iterator[str]:
    if not rest or rest == '""':
        raise Unclear(f"{name}: needs a value.")
    place = 0
    while True:
        found = _PART.match(rest, place)
        if found is None or not found.group(1):
            raise Unclear(f"{name}: has an empty or unfinished value.")
        yield found.group(1)
        if not found.group(2):
            return
        place = found.end()


def _value(part: str, name: str, known: Name, now: datetime) -> Value:
    if known.kind == "time":
        return _time(part, now)
    if known.kind == "number":
        return _number(part, now)
    word = _word(part)
    if known.kind == "choice" and not _is_choice(word, known.choices):
        nearest = _nearest(word.text, known.choices)
        raise Unclear(f"{name}: has no value {word.text}.", f"{name}:{nearest}" if nearest else "")
    return word


def _is_choice(word: Word, choices: frozenset[str]) -> bool:
    if word.is_prefix:
        return any(choice.startswith(word.text) for choice in choices)
    return word.text in choices


def _word(text: str) -> Word:
    if text.startswith('"'):
        if len(text) < 2 or not text.endswith('"'):  # noqa: PLR2004 - two quotation marks.
            raise Unclear("A quotation mark is missing.")
        inner = re.sub(r"\\(.)", r"\1", text[1:-1])
        if not inner:
            raise Unclear("There is nothing between the quotation marks.")
        return Word(inner)
    if '"' in text:
        raise Unclear("Quotation marks stand around a whole value.")
    if text == "*":
        raise Unclear("A star needs something before it.")
    return Word(text[:-1], is_prefix=True) if text.endswith("*") else Word(text)


def _time(part: str, now: datetime) -> Span:
    if part == "all":
        return Span()
    if found := _RELATIVE.fullmatch(part):
        return Span(low=now - timedelta(**{_UNITS[found.group(2)]: int(found.group(1))}))
    return _span(part, _moment, "a time, for example 7d, 2026-11-24 or 2026-11-01..2026-11-24")


def _number(part: str, _now: datetime) -> Span:
    return _span(part, _count, "a number, for example 120 or 100..200")


def _span(part: str, read: Callable[[str], Span], what: str) -> Span:
    """Read `a`, `a..b`, `>=a`, `>a`, `<=a` or `<a`; `read` returns what one end covers."""
    try:
        if ".." in part:
            low, high = part.split("..")
            return Span(read(low).low, read(high).high)
        for sign, pick in _SIGNS.items():
            if part.startswith(sign):
                return pick(read(part.removeprefix(sign)))
        return read(part)
    except (ValueError, OverflowError) as error:
        raise Unclear(f"{part} is not {what}.") from error


_SIGNS: Mapping[str, Callable[[Span], Span]] = {
    ">=": lambda one: Span(low=one.low),
    "<=": lambda one: Span(high=one.high),
    ">": lambda one: Span(low=one.high),
    "<": lambda one: Span(high=one.low),
}


def _moment(text: str) -> Span:
    at = datetime.fromisoformat(text)
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    width = timedelta(days=1) if _DAY.fullmatch(text) else timedelta(microseconds=1)
    return Span(at, at + width)


def _count(text: str) -> Span:
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return Span(int(text), int(text) + 1)


def _nearest(text: str, known: Mapping[str, Name] | frozenset[str]) -> str:
    return next(iter(difflib.get_close_matches(text, sorted(known), n=1, cutoff=0.5)), "")


def _add_default(default: str, reading: _Reading) -> None:
    if not default:
        return
    name, values = _condition(default, reading)
    written = {term.name for term in reading.terms}
    if not {name, SEQ_NAME} & written:
        reading.terms.append(Term(name, values, is_negated=False, raw=default))


def _tokens(raw: str) -> list[str]:
    return _TOKEN.findall(raw)
