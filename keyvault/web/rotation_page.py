"""Gather what the page of a rotation shows: its versions, its dependents and what can be decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.utils import timezone

from approvals import selectors as approvals
from keyvault.actions import finish_rotation
from keyvault.audit import selectors as ledger
from keyvault.dependents import probes
from keyvault.inventory import access
from keyvault.rotation import hurrying, progress, selectors, services
from keyvault.web import geometry, key_page, live, moments
from keyvault.web.history import items

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from keyvault.accounts.models import User
    from keyvault.dependents.models import Probe
    from keyvault.rotation.models import Delivery, Rotation
    from keyvault.vault.models import Version

HISTORY_LIMIT, PAGE, BATCHES = 200, 50, 5
_SKIPPING = frozenset({"promoting", "draining", "brownout", "held"})


@dataclass(frozen=True, slots=True)
class Lane:
    """One dependent on the board: its part, its words, and its stretch of time as drawing."""

    delivery: Delivery
    sentence: str
    word: str
    bars: tuple[geometry.Segment, ...]
    can_confirm: bool
    can_skip: bool


def page(person: User, rotation_id: UUID, *, now: datetime) -> dict[str, Any]:
    """Return everything the page of a rotation shows. Raises NotVisible."""
    # Read first: what changes while the page is made is then news to its first poll.
    topics = {name: f"{name}:{rotation_id}" for name in ("rotation", "rotation-choices")}
    made_from = {name: live.version(person, topic, now=now) for name, topic in topics.items()}
    found = selectors.rotation(person, rotation_id)
    may = "rotate" in access.permissions(person, found.key)
    open_acts = approvals.open_for_subject(
        "key", found.key_id, act=finish_rotation.FinishRotation.kind
    )
    versions = selectors.versions(found)
    lines = ledger.for_subject("key", found.key_id, limit=HISTORY_LIMIT)
    mine = [line for line in lines if line.fields.get("rotation") == str(found.pk)]
    return {
        "nav": "rotations",
        "now": now,
        "by_hand": "" if found.ended_at else key_page.by_hand(found.key),
        "may_hand": key_page.may_hand(person, found.key),
        "board_at": made_from["rotation"],
        "choices_at": made_from["rotation-choices"],
        "rotation": found,
        "batch": progress.of_rotation(person, rotation_id),
        "key": found.key,
        "old": versions.old,
        "new": versions.new,
        "lanes": _lanes(found, versions.new, now),
        "choices": selectors.choices(found) if may else frozenset(),
        "may": may,
        "may_roll_back": may and selectors.may_roll_back(found),
        "may_hurry": may and hurrying.may_hurry(found),
        "terms": _spans(found.terms),
        "incident": _spans(services.cut(found.terms)),
        "asked": open_acts[0] if open_acts else None,
        "items": items(mine),
    }


def _spans(terms: Mapping[str, int]) -> dict[str, str]:
    """Return the terms of a rotation in words."""
    return {
        name: moments.span(timedelta(seconds=terms.get(f"{name}_s", 0)))
        for name in ("grace", "quiet", "overlap", "brownout")
    }


def _lanes(rotation: Rotation, new: Version | None, now: datetime) -> list[Lane]:
    deliveries = selectors.deliveries(rotation.pk)
    # What an address says now is no news of a rotation that is over.
    asked = [] if rotation.ended_at else [one.dependent_id for one in deliveries]
    heard = probes.of_dependents(asked)
    return [_lane(one, rotation, new, now, probe=heard.get(one.dependent_id)) for one in deliveries]


def _lane(
    delivery: Delivery,
    rotation: Rotation,
    new: Version | None,
    now: datetime,
    *,
    probe: Probe | None,
) -> Lane:
    """Return one lane. A person confirms what no program can watch, and skips what is behind."""
    is_open = rotation.ended_at is None
    is_by_hand = delivery.dependent.health == "by_hand"
    is_asked = delivery.state in {"restarting", "writing", "failed"}
    return Lane(
        delivery,
        _sentence(delivery, probe),
        f"On v{new.number}" if new else "Confirmed",
        _bars(delivery, rotation, now),
        can_confirm=is_open and is_by_hand and is_asked,
        can_skip=is_asked and rotation.state in _SKIPPING and not rotation.goes_back,
    )


def _sentence(delivery: Delivery, probe: Probe | None) -> str:
    if delivery.note:
        return delivery.note
    if probe and probe.asked_at:
        named = f", names v{probe.number}" if probe.number else ""
        return f"Asked over HTTP: {probe.get_answer_display().lower()}{named}"
    if delivery.state == "confirmed" and delivery.confirmed_by:
        return f"{delivery.confirmed_by} said so"
    return str(delivery.dependent.get_health_display())


def _bars(delivery: Delivery, rotation: Rotation, now: datetime) -> tuple[geometry.Segment, ...]:
    """Return when it was given the new version, and when it was seen with it, as two stretches."""
    start, end = rotation.created_at, rotation.ended_at or now
    span = max((end - start).total_seconds(), 1.0)

    def stretch(since: datetime, until: datetime, css: str) -> geometry.Segment:
        left, right = ((moment - start).total_seconds() / span for moment in (since, until))
        return geometry.Segment(geometry.percent(left), geometry.percent(max(right - left, 0)), css)

    if delivery.given_at is None:
        return ()
    bars = [stretch(delivery.given_at, delivery.confirmed_at or end, "moving")]
    if delivery.confirmed_at:
        bars.append(stretch(delivery.confirmed_at, end, "moved"))
    return tuple(bars)


def listing(person: User, *, state: str, page: str) -> dict[str, Any]:
    """Return one page of the rotations that this person may see, with the counts of the filters."""
    rows = selectors.rotations_for(person, state=state)
    chips = [
        (slug, label, selectors.rotations_for(person, state=slug).count())
        for slug, label in (("", "All"), ("open", "Open"), ("held", "Held"), ("ended", "Ended"))
    ]
    return {
        "nav": "rotations",
        "now": timezone.now(),
        "state": state,
        "chips": chips,
        "batches": progress.newest(person, most=BATCHES) if page == "1" else [],
        "page": Paginator(rows, PAGE).get_page(page),
    }
