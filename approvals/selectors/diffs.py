"""What differs between two wordings of a plan, as rows that a page can show. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from approvals.ports import Change

JSON = Any
Plan = Mapping[str, JSON]


def changes(old: Plan, new: Plan) -> tuple[Change, ...]:
    """Return one row for each thing that differs: what it said and what it says.

    Rows of the plan come first, then the texts around them, then parameters
    that execution obeys but no row shows.
    """
    rows = (*_rows(old, new), *_texts(old, new))
    told = {row.field.casefold() for row in rows}
    return (*rows, *(row for row in _body(old, new) if row.field.casefold() not in told))


def _rows(old: Plan, new: Plan) -> Iterator[Change]:
    """Yield the rows of the change table whose outcome or starting point differs."""
    before = {row["field"]: row for row in old["changes"]}
    after = {row["field"]: row for row in new["changes"]}
    for field in [*before, *(name for name in after if name not in before)]:
        was, will = before.get(field, {}), after.get(field, {})
        if was.get("then") != will.get("then"):
            yield Change(field, _side(was.get("then")), _side(will.get("then")))
        if was and will and was["now"] != will["now"]:
            yield Change(f"{field}, now", _side(was["now"]), _side(will["now"]))


def _texts(old: Plan, new: Plan) -> Iterator[Change]:
    for name, label in (
        ("title", "Title"),
        ("sentence", "In a sentence"),
        ("fingerprint", "Fingerprint"),
        ("undo", "Undo"),
    ):
        if old[name] != new[name]:
            yield Change(label, old[name], new[name])
    if old["breaks"] != new["breaks"]:
        yield Change("What could break", tuple(old["breaks"]), tuple(new["breaks"]))
    if old["target"] != new["target"]:
        yield Change("Target", _words(old["target"]), _words(new["target"]))


def _body(old: Plan, new: Plan) -> Iterator[Change]:
    """Yield what differs among the parameters; of an object its differing members alone."""
    before, after = old["body"], new["body"]
    for name in sorted({*before, *after}):
        was, will = before.get(name), after.get(name)
        if isinstance(was, Mapping) and isinstance(will, Mapping):
            for row in _body({"body": was}, {"body": will}):
                yield Change(f"{_label(name)}: {row.field.lower()}", row.now, row.then)
        elif was != will:
            yield Change(_label(name), _words(was), _words(will))


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _side(value: JSON) -> str | tuple[str, ...]:
    return tuple(value) if isinstance(value, list) else value or ""


def _words(value: JSON) -> str:
    if value is None:
        return ""
    return (
        value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    )
