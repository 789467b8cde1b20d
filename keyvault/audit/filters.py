"""The names that the audit log can be filtered by, and what each means in the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import reduce
from operator import or_
from uuid import UUID

from django.db.models import Q

from keyvault.audit.events import EVENTS
from keyvault.audit.models import Event, Outcome
from keyvault.audit.query import Name, Query, Span, Term, Value, Word, parse

DEFAULT = "time:7d"
NAMES: Mapping[str, Name] = {
    "actor": Name("word"),
    "actor-kind": Name("choice", frozenset({"user", "agent", "system"})),
    "action": Name("choice", frozenset(EVENTS)),
    "target": Name("word"),
    "target-kind": Name("word"),
    "key": Name("word"),
    "connection": Name("word"),
    "agent": Name("word"),
    "request": Name("word"),
    "result": Name("choice", frozenset(Outcome.values)),
    "ip": Name("word"),
    "session": Name("word"),
    "correlation": Name("word"),
    "provider": Name("word"),
    "policy": Name("word"),
    "mfa": Name("word"),
    "time": Name("time"),
    "seq": Name("number"),
}


class Unanswerable(ValueError):
    """A query with problems was run; showing part of it would show too much."""


def read(raw: str, *, now: datetime) -> Query:
    """Parse a query of the audit log; without a time it looks back seven days."""
    return parse(raw, names=NAMES, now=now, default=DEFAULT)


def condition(query: Query) -> Q:
    """Return the query as a database condition. Raises Unanswerable when it has problems."""
    if query.problems:
        raise Unanswerable(query.problems[0].sentence)
    found = Q()
    for term in query.terms:
        found &= _term(term)
    return found


def _term(term: Term) -> Q:
    matched = reduce(or_, (_MEANING[term.name](value) for value in term.values))
    return ~matched if term.is_negated else matched


def _compare(value: Value, *columns: str) -> Q:
    assert isinstance(value, Word)  # noqa: S101 - the parser reads these names as words.
    lookup = "__startswith" if value.is_prefix else ""
    return reduce(or_, (Q((f"{column}{lookup}", value.text)) for column in columns))


def _between(value: Value, column: str) -> Q:
    assert isinstance(value, Span)  # noqa: S101 - the parser reads these names as spans.
    # A condition that always holds keeps "time:all" from becoming "nothing" when negated.
    found = Q((f"{column}__isnull", False))
    if value.low is not None:
        found &= Q((f"{column}__gte", value.low))
    if value.high is not None:
        found &= Q((f"{column}__lt", value.high))
    return found


def _of_kind(kind: str) -> Callable[[Value], Q]:
    return lambda value: Q(subject_kind=kind) & _compare(value, "subject_label", "subject_id")


def _key(value: Value) -> Q:
    """Match what happened to a key, and who asked for it and decided: the request's own lines."""
    about = _of_kind("key")(value)
    requests = Event.objects.filter(about, request_id__isnull=False).values("request_id")
    return about | Q(request_id__in=requests)


def _request(value: Value) -> Q:
    found = Q(subject_kind="request") & _compare(value, "subject_label", "subject_id")
    try:
        return found | Q(request_id=UUID(value.text if isinstance(value, Word) else ""))
    except ValueError:
        return found


def _text(value: Value) -> Q:
    """Match names and ids only: there is no search inside fields, and the help says so."""
    assert isinstance(value, Word)  # noqa: S101 - text is always a word.
    columns = ("actor_label", "subject_label", "subject_id")
    return reduce(or_, (Q((f"{column}__icontains", value.text)) for column in columns)) | _request(
        value
    )


def _columns(*columns: str) -> Callable[[Value], Q]:
    return lambda value: _compare(value, *columns)


def _field(name: str) -> Callable[[Value], Q]:
    """Compare a recorded field; an event without it must match the negation."""
    return lambda value: Q(fields__has_key=name) & _compare(value, f"fields__{name}")


_MEANING: Mapping[str, Callable[[Value], Q]] = {
    "actor": _columns("actor_label", "actor_id"),
    "actor-kind": _columns("actor_kind"),
    "action": _columns("event"),
    "target": _columns("subject_label", "subject_id"),
    "target-kind": _columns("subject_kind"),
    "key": _key,
    "connection": _of_kind("connection"),
    "agent": lambda value: Q(actor_kind="agent") & _compare(value, "actor_label", "actor_id"),
    "request": _request,
    "result": _columns("outcome"),
    "ip": _columns("ip"),
    "session": _columns("session"),
    "correlation": _columns("correlation_id"),
    "provider": _field("provider"),
    "policy": _field("policy"),
    "mfa": _field("method"),
    "time": lambda value: _between(value, "at"),
    "seq": lambda value: _between(value, "leaf__seq"),
    "text": _text,
}
