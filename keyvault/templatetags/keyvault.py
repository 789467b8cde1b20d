"""The console's components as template tags; every template has them without a load.

A tag takes plain values, computes what its template in `templates/c/` shows,
and writes no markup beyond an icon. Vocabularies are closed: an unknown icon,
badge kind or state raises, so that a test finds it and not a reader.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django import template
from django.forms import BaseForm, BoundField
from django.template import Context
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from keyvault.web import geometry, moments, parts, vocabulary
from keyvault.web import hostile as hostile_text

register = template.Library()


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """Return an icon of the sprite, hidden from screen readers: `{% icon "key" %}`."""
    if name not in parts.icons():
        message = f"the sprite has no icon {name!r}"
        raise LookupError(message)
    return format_html(
        '<svg class="i {}" aria-hidden="true"><use href="{}#{}"/></svg>',
        css,
        static("icons.svg"),
        name,
    )


@register.inclusion_tag("c/badge.html")
def badge(kind: str, word: str, icon: str = "") -> dict[str, str]:
    """Show a pill: `{% badge "ok" "Active" "check" %}`. Kinds: "", ok, warn, bad, info, bot."""
    if kind not in vocabulary.KINDS:
        message = f"{kind!r} is not a badge kind"
        raise LookupError(message)
    return {"kind": kind, "word": word, "icon": icon}


@register.inclusion_tag("c/badge.html")
def state(thing: str, value: str) -> dict[str, str]:
    """Show a state by its word: `{% state "request" request.state %}`.

    Things: request, key, mark, version, agent, problem, verdict, job, event.
    """
    found = vocabulary.word(thing, value)
    return {"kind": found.kind, "word": found.word, "icon": found.icon}


@register.inclusion_tag("c/avatar.html")
def avatar(actor: object) -> dict[str, str]:
    """Show who acts by shape: a person round, an agent violet and square, the system grey.

    Takes a user, an actor snapshot (kind, label) or a bare name.
    """
    return parts.face(actor)


@register.inclusion_tag("c/who.html")
def who(person: object) -> dict[str, str]:
    """Show avatar and name: `{% who request.requester %}`."""
    return parts.face(person)


@register.inclusion_tag("c/when.html", takes_context=True)
def when(context: Context, moment: datetime | None) -> dict[str, Any]:
    """Show a moment: relative within a day, else its date; the full stamp on hover."""
    return _moment(context, moment, moments.brief)


@register.inclusion_tag("c/when.html", takes_context=True)
def until(context: Context, moment: datetime | None) -> dict[str, Any]:
    """Show how far a moment is away, whatever the distance: "in 28 d"."""
    return _moment(context, moment, moments.relative)


def _moment(context: Context, moment: datetime | None, words: parts.Words) -> dict[str, Any]:
    now = parts.now(context)
    text = words(moment, now=now) if moment else ""
    always = words is moments.relative
    return {"moment": moment, "text": text, "always": always} | (
        {"stamp": moments.stamp(moment)} if moment else {}
    )


@register.inclusion_tag("c/hostile.html")
def hostile(text: object) -> dict[str, Any]:
    """Show text that somebody wrote: inert, hidden characters by number, at most 4,000 long."""
    return {"shown": hostile_text.shown(text)}


@register.inclusion_tag("c/field.html")
def field(bound: BoundField) -> dict[str, Any]:
    """Show a form field with label, help and error, all tied together for screen readers."""
    return parts.control(bound)


@register.inclusion_tag("c/errors.html")
def errors(form: BaseForm) -> dict[str, Any]:
    """Show the error summary of a form, each line a link to its field; nothing when valid."""
    rows = [
        (form[name].id_for_label or form[name].auto_id, form[name].label, list(found))
        for name, found in form.errors.items()
        if name in form.fields
    ]
    return {"rows": rows, "general": form.non_field_errors()}


@register.inclusion_tag("c/risk.html")
def risk(points: Iterable[object]) -> dict[str, Any]:
    """Show a risk score, its band and the points that add up to it.

    Takes RiskPoint objects or their JSON: points, title, evidence, link.
    """
    return parts.risk(points)


@register.inclusion_tag("c/diff.html")
def diff(plan: object) -> dict[str, Any]:
    """Show a plan's changes in three columns: field, now, if approved.

    Takes a Plan, its JSON, or a sequence of changes (field, now, then, warning).
    """
    return {"rows": parts.diff_rows(plan)}


@register.inclusion_tag("c/timeline.html", takes_context=True)
def timeline(context: Context, items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Show what happened, oldest first.

    Each item: actor, text, at; optionally quote (hostile text), note, badge (a
    triple kind, word, icon) and href.
    """
    rows = [{**item, "face": parts.face(item["actor"])} for item in items]
    return {"rows": rows, "now": context.get("now")}


@register.inclusion_tag("c/lifeline.html", takes_context=True)
def lifeline(context: Context, life: geometry.Lifeline, mini: str = "") -> dict[str, Any]:
    """Show a key's life from `geometry.lifeline(...)`; `mini="1"` draws the form for lists."""
    return {"life": life, "mini": mini, "now": context.get("now")}


@register.inclusion_tag("c/facts.html")
def facts(pairs: Iterable[tuple[str, object]] | Mapping[str, object]) -> dict[str, Any]:
    """Show (label, value) pairs as a fact list; pairs with an empty value are left out."""
    rows = pairs.items() if isinstance(pairs, Mapping) else pairs
    return {"rows": [pair for pair in rows if pair[1] is not None and pair[1] != ""]}


@register.inclusion_tag("c/empty.html")
def empty(
    title: str, text: str = "", *, action: str = "", href: str = "", icon: str = "inbox"
) -> dict[str, str]:
    """Show an empty state: one sentence of what this is, and one action that fills it."""
    return {"title": title, "text": text, "action": action, "href": href, "icon": icon}


@register.inclusion_tag("c/pager.html")
def pager(page: object) -> dict[str, Any]:
    """Show Newer and Older. The page has `newer` and `older` (addresses or "") and `note`."""
    return {"page": page}


@register.inclusion_tag("c/fingerprint.html")
def fingerprint(digest: str) -> dict[str, str]:
    """Show a digest by its first and last eight characters; all of it is on hover and copied."""
    return {"digest": digest, "short": parts.short(digest)}


@register.inclusion_tag("c/sparkline.html")
def sparkline(
    values: Sequence[float], label: str, css: str = "", low: float = 0.0
) -> dict[str, Any]:
    """Show a trend with a sentence as its label; css: "", ok, or hot for an anomaly."""
    return {"spark": geometry.sparkline(values, low=low), "label": label, "css": css}


@register.inclusion_tag("c/meter.html")
def meter(shares: Sequence[tuple[float, str]], label: str) -> dict[str, Any]:
    """Show shares of a whole, (amount, css) each, with the exact numbers in the label."""
    return {"segments": geometry.meter(shares), "label": label}


@register.inclusion_tag("c/histogram.html")
def histogram(columns: Sequence[geometry.Column], label: str) -> dict[str, Any]:
    """Show the columns of `geometry.histogram(...)`, allowed and refused stacked."""
    return {"columns": columns, "label": label}


@register.inclusion_tag("c/heat.html")
def heat(cells: Sequence[geometry.Segment], label: str) -> dict[str, Any]:
    """Show the cells of `geometry.heat(...)`, one a day."""
    return {"cells": cells, "label": label}


@register.inclusion_tag("c/swatch.html")
def swatch(css: str) -> dict[str, str]:
    """Show the colour of a legend entry."""
    return {"css": css}


@register.simple_tag
def tile(name: str) -> str:
    """Return the two letters that stand for a provider: `postgresql` gives Po."""
    return parts.initials_of_thing(name)
