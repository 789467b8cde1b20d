"""Put what the audit log returns into the shapes that its templates draw."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlencode

from django.http import QueryDict
from django.urls import reverse

from keyvault.audit.histogram import Histogram
from keyvault.audit.query import Problem, Query, Term
from keyvault.audit.selectors import Line, Opened, Page, Proof
from keyvault.web import geometry

EXACT_COUNT = 10_000
_DAY = timedelta(days=1)

VIEWS = (
    ("Everything", ""),
    ("Secret access", "action:secret.*"),
    ("Decisions", "action:request.decided"),
    ("People and factors", "action:person.*,membership.*,factor.*,session.*,lockout.*"),
    ("Refused", "result:refused,error"),
    ("Audit reads", "action:audit.*"),
)


@dataclass(frozen=True, slots=True)
class Token:
    """One term as a removable chip; `rest` is the query without it."""

    name: str
    value: str
    is_negated: bool
    is_default: bool
    rest: str


@dataclass(frozen=True, slots=True)
class Mend:
    """One piece of a query that has no meaning, and where the nearest meaning leads."""

    before: str
    raw: str
    after: str
    sentence: str
    nearest: str
    href: str


@dataclass(frozen=True, slots=True)
class Row:
    """One event in the table; `href` opens it beside the list."""

    line: Line
    href: str
    fragment: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class Pager:
    """Where Newer and Older lead."""

    newer: str
    older: str
    note: str = "50 a page, newest first"


@dataclass(frozen=True, slots=True)
class Picture:
    """The histogram with its label."""

    columns: tuple[geometry.Column, ...]
    label: str
    count: str


def address(query: str, **more: str | int) -> str:
    """Return the address of the audit log for a query; empty values are left out."""
    given = {"q": query, **more}
    kept = {name: value for name, value in given.items() if value != ""}
    return reverse("audit") + (f"?{urlencode(kept)}" if kept else "")


def tabs(raw: str) -> Iterator[tuple[str, str, bool]]:
    """Yield title, address and whether it is the current one, for each built-in view."""
    for title, query in VIEWS:
        yield title, address(query), raw.strip() == query


def tokens(query: Query) -> list[Token]:
    """Return the terms of a query as chips."""
    return [_token(query, term) for term in query.terms]


def _token(query: Query, term: Term) -> Token:
    bare = term.raw.removeprefix("-") if term.is_negated else term.raw
    name, colon, value = bare.partition(":")
    if not colon or bare.startswith('"'):
        name, value = "", bare
    return Token(
        name=f"{'-' if term.is_negated else ''}{name}{':' if name else ''}",
        value=value,
        is_negated=term.is_negated,
        is_default=term.is_default,
        rest=query.without(term),
    )


def mends(query: Query) -> list[Mend]:
    """Return the problems of a query, each in its place in what was typed."""
    return [_mend(query.raw, problem) for problem in query.problems]


def _mend(raw: str, problem: Problem) -> Mend:
    before, after = raw[: problem.start], raw[problem.start + len(problem.raw) :]
    mended = f"{before}{problem.nearest}{after}"
    return Mend(
        before=before,
        raw=problem.raw,
        after=after,
        sentence=problem.sentence,
        nearest=problem.nearest,
        href=address(mended) if problem.nearest else "",
    )


def rows(page: Page, given: QueryDict, *, raw: str, opened: int | None) -> list[Row]:
    """Return the table's rows; each keeps the place in the list that the reader came from."""
    place = {name: given.get(name, "") for name in ("after", "before")}
    return [
        Row(
            line=line,
            href=address(raw, **place, open=line.seq) if line.seq else "",
            fragment=reverse("audit-event", args=[line.seq]) + "?drawer=1" if line.seq else "",
            is_open=line.seq is not None and line.seq == opened,
        )
        for line in page.rows
    ]


def pager(page: Page, raw: str) -> Pager:
    """Return the addresses of the neighbouring pages."""
    return Pager(
        newer=address(raw, before=page.newer) if page.newer else "",
        older=address(raw, after=page.older) if page.older else "",
    )


def picture(found: Histogram | None) -> Picture | None:
    """Return the histogram to draw, with one sentence that says what it shows."""
    if found is None:
        return None
    form = "%H:%M" if found.end - found.start <= 2 * _DAY else "%d %b"
    labels = [
        f"{found.start + found.step * index:{form}}" if index % 14 == 0 else ""
        for index in range(len(found.counts))
    ]
    count = about(found.total)
    sentence = (
        f"{count} events from {found.start:%d %b %Y %H:%M} to {found.end:%d %b %Y %H:%M} UTC,"
        f" {about(found.refused)} of them refused or failed"
    )
    return Picture(geometry.histogram(found.counts, labels=labels), sentence, count)


def about(count: int) -> str:
    """Return a count: exact to 10,000, then rounded and said to be."""
    if count <= EXACT_COUNT:
        return f"{count:,}"
    unit = 10 ** (len(str(count)) - 3)
    return f"about {round(count / unit) * unit:,}"


def recorded(opened: Opened) -> str:
    """Return everything recorded about an event as indented JSON; it holds no secret."""
    return json.dumps(opened.entry, indent=2, ensure_ascii=False)


def proof_facts(proof: Proof, seq: int) -> list[tuple[str, str]]:
    """Return the proof's parts for a fact list."""
    signed = f"number {proof.checkpoint}" if proof.checkpoint is not None else "not signed yet"
    return [
        ("Event", f"#{seq:,}"),
        ("Leaf", _grouped(proof.leaf)),
        ("Root", _grouped(proof.root)),
        ("Tree", f"{proof.size:,} events, {len(proof.path)} hashes on the way"),
        ("Checkpoint", signed),
    ]


def _grouped(digest: str) -> str:
    return f"{digest[:4]} {digest[4:8]} … {digest[-8:-4]} {digest[-4:]}" if digest else ""
