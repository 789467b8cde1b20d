"""Prepare plain values for the components in `templates/c/`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.contrib.staticfiles import finders
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect, Textarea
from django.template import Context
from django.utils import timezone

from keyvault.web import geometry


class Words(Protocol):
    """A function of `moments` that puts a moment into words."""

    def __call__(self, moment: datetime, /, *, now: datetime) -> str:
        """Return the words."""


def now(context: Context) -> datetime:
    """Return the moment a page was made for: the view's `now`, else the clock's."""
    found = context.get("now")
    return found if isinstance(found, datetime) else timezone.now()


@cache
def icons() -> frozenset[str]:
    """Return the names of all icons in the sprite, read once."""
    found = finders.find("icons.svg") or Path(settings.STATIC_ROOT) / "icons.svg"
    return frozenset(re.findall(r'<symbol id="([^"]+)"', Path(str(found)).read_text()))


# --- people ------------------------------------------------------------------------------

_SHAPES = {"user": "", "person": "", "agent": "bot", "system": "sys"}


def face(actor: object) -> dict[str, str]:
    """Return shape, initials and label of a user, an actor snapshot or a bare name."""
    label = _label(actor)
    shape = _SHAPES[getattr(actor, "kind", "user")] if not isinstance(actor, str) else ""
    return {"shape": shape, "initials": initials(label), "label": label}


def _label(actor: object) -> str:
    for name in ("label", "name", "username"):
        if found := getattr(actor, name, ""):
            return str(found)
    return str(actor)


def initials(label: str) -> str:
    """Return one or two capitals of a name, "?" where it has no letter."""
    words: list[str] = re.findall(r"[^\W_]+", label)
    if not words:
        return "?"
    return (words[0][0] + (words[-1][0] if len(words) > 1 else words[0][1:2])).upper()


def initials_of_thing(name: str) -> str:
    """Return the two letters of a tile: Po for postgresql."""
    return re.sub(r"[\W_]", "", name)[:2].capitalize() or "?"


# --- forms -------------------------------------------------------------------------------


_DJANGO_ROWS = "10"


def control(bound: BoundField) -> dict[str, Any]:
    """Return a bound field with its widget's shape, and its help tied to it."""
    widget = bound.field.widget
    many = isinstance(widget, RadioSelect | CheckboxSelectMultiple)
    single = isinstance(widget, CheckboxInput)
    attributes: dict[str, str | bool] = (
        {} if many or single else {"class": f"in {widget.attrs.get('class', '')}".strip()}
    )
    if isinstance(widget, Textarea) and widget.attrs.get("rows") == _DJANGO_ROWS:
        attributes["rows"] = "3"
    return {
        "bound": bound,
        "many": many,
        "single": single,
        "widget": "" if many else bound.as_widget(attrs=attributes),
        "required": bound.field.required,
    }


# --- plans and risk ----------------------------------------------------------------------


def _get(thing: object, name: str) -> Any:  # noqa: ANN401 - rows come as objects or as JSON
    return thing.get(name, "") if isinstance(thing, Mapping) else getattr(thing, name, "")


def risk(points: Iterable[object]) -> dict[str, Any]:
    """Return score (0 to 100), band and the points as they add up to the raw sum."""
    rows = [
        {name: _get(point, name) for name in ("points", "title", "evidence", "link")}
        for point in points
    ]
    total = sum(int(row["points"]) for row in rows)
    score = min(max(total, 0), 100)
    low, high = geometry.RISK_CUTS
    css, band = ("bad", "High") if score >= high else ("warn", "Medium")
    if score < low:
        css, band = "ok", "Low"
    return {
        "rows": [row | {"css": _weight(row["points"])} for row in rows],
        "score": score,
        "width": geometry.percent(score / 100),
        "css": css,
        "band": band,
        "capped": total if total != score else None,
    }


def _weight(points: int) -> str:
    if points <= 0:
        return "minus"
    return "mid" if points < geometry.HEAVY_POINTS else ""


def diff_rows(plan: object) -> list[dict[str, Any]]:
    """Return a plan's changes with lists split into kept, removed and added chips."""
    changes = plan if isinstance(plan, list | tuple) else _get(plan, "changes")
    return [_diff_row(change) for change in changes]


def _diff_row(change: object) -> dict[str, Any]:
    now, then = _get(change, "now"), _get(change, "then")
    row = {"field": _get(change, "field"), "warning": _get(change, "warning"), "sets": False}
    if isinstance(now, str) and isinstance(then, str):
        return row | {"now": now, "then": then}
    before, after = _items(now), _items(then)
    return row | {
        "sets": True,
        "now": [(item, "" if item in after else "del") for item in before],
        "then": [(item, "" if item in before else "add") for item in after],
    }


def _items(value: str | Sequence[str]) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    return list(value)


def number(value: int) -> str:
    """Return a number in groups of three, set apart by thin spaces."""
    return f"{value:,}".replace(",", "\u202f")


_SHOWN = 8


def short(digest: str) -> str:
    """Return a digest's first and last eight characters; a short one whole."""
    if len(digest) <= 2 * _SHOWN:
        return digest
    return f"{grouped(digest[:_SHOWN])} … {grouped(digest[-_SHOWN:])}"


def grouped(text: str, *, size: int = 4) -> str:
    """Return a digest in groups of four, which eyes can compare."""
    return " ".join(text[start : start + size] for start in range(0, len(text), size))
