"""Print a plan: for people with a sign and a colour for each change, for programs as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from keyvault.cli import printing
from keyvault.cli.declared import DEPENDENTS
from keyvault.cli.planned import AT_ONCE, Change, Plan

JSON = Any
_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "~": "\x1b[33m"}
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_WORDS = {
    "allowed_hosts": "allowed hosts",
    "delivery_mode": "delivery",
    "volume_per_day": "calls a day",
    DEPENDENTS: "dependent",
}
_HOW = {
    "reads": "by its reads",
    "reports": "it reports",
    "by_hand": "a person says so",
    "probed": "it is asked",
}


def is_coloured() -> bool:
    """Say whether colours are wanted: on a terminal, unless NO_COLOR (no-color.org) says no."""
    return (
        sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def tell(plan: Plan, *, coloured: bool) -> None:
    """Print every change under its key, and how many there are."""
    for line in lines(plan, coloured=coloured):
        print(line)


def lines(plan: Plan, *, coloured: bool) -> Iterator[str]:
    """Yield the lines of a plan."""

    def paint(text: str, code: str) -> str:
        return f"{code}{text}{_PLAIN}" if coloured else text

    for one in plan.keys:
        yield paint(one.name, _BOLD)
        shown = [(change, _field(change), text) for change in one.changes for text in _says(change)]
        width = max(len(name) for _, name, _ in shown)
        for change, name, text in shown:
            line = f"  {text[0]} {name.ljust(width)}  {text[2:]}"
            how = "" if change.how == AT_ONCE else paint("  (by policy)", _DIM)
            yield paint(line, _COLOURS[text[0]]) + how
        if one.use and one.seen.waits:
            label = printing.plain(one.seen.waits["label"])
            yield paint(f"    {label} asks for this already", _DIM)
    yield _sum(plan)


def _sum(plan: Plan) -> str:
    if not plan.count:
        return "Nothing to do: everything is as declared."
    asked = sum(len(one.use) for one in plan.keys)
    count = f"{plan.count} change{'s' * (plan.count > 1)} to {_keys(len(plan.keys))}"
    return f"{count}: {plan.count - asked} at once, {asked} that policy decides about."


def _keys(count: int) -> str:
    return "1 key" if count == 1 else f"{count:,} keys"


def _says(change: Change) -> Iterator[str]:
    """Yield the lines of one change, each with its sign first; no text of the server steers."""
    if change.field == DEPENDENTS:
        found = change.then or change.now
        text = _dependent(found)
        if change.sign == "~":
            text += f"; was {_dependent(change.now, named=False)}"
        if change.note:
            text += f" ({change.note})"
        yield f"{change.sign} {text}"
    elif isinstance(change.now, list):
        for word in sorted(set(change.then) - set(change.now)):
            yield f"+ {printing.plain(word)}"
        for word in sorted(set(change.now) - set(change.then)):
            yield f"- {printing.plain(word)}"
        if change.field == "allowed_hosts" and not change.then:
            yield "~ any host from then on"
    else:
        yield f"~ {printing.plain(change.now)} -> {printing.plain(change.then)}"


def _dependent(found: Mapping[str, JSON], *, named: bool = True) -> str:
    parts = [
        f"agent {found['agent']}" if found["agent"] else "",
        _HOW.get(found["health"], found["health"]),
        f"wave {found['wave']}",
        f"keeps it {found['cache_s']} s" if found["cache_s"] else "",
    ]
    said = ", ".join(part for part in parts if part)
    return printing.plain(f"{found['name']}: {said}" if named else said)


def _field(change: Change) -> str:
    return _WORDS.get(change.field, change.field)
