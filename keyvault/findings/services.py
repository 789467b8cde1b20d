"""Open and close findings. Opening what is open already only says that it was seen again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from approvals.ports import Actor, NotVisible, Subject
from keyvault.audit import ledger
from keyvault.findings.models import Finding, FindingKind

_SYSTEM = Actor("system", "keyvault", "keyvault")


def open(  # noqa: A001 - always called qualified, as findings.open.
    *,
    kind: FindingKind,
    subject: Subject,
    sentence: str,
    now: datetime,
    detail: str = "",
    evidence: Mapping[str, Any] | None = None,
    actor: Actor = _SYSTEM,
) -> Finding:
    """Return the open finding of this kind, subject and detail; make it if there is none.

    Runs in the caller's transaction. A finding that is open already keeps its
    opening time and takes the newer sentence and evidence.
    """
    place = {
        "kind": kind,
        "subject_kind": subject.kind,
        "subject_id": subject.id,
        "detail": detail[:300],
        "closed_at": None,
    }
    fresh = {"sentence": sentence, "evidence": dict(evidence or {}), "seen_at": now}
    with transaction.atomic():
        # The partial unique constraint decides between two that open at once.
        finding, is_new = Finding.objects.get_or_create(
            **place, defaults=fresh | {"subject_label": subject.label[:200], "opened_at": now}
        )
        if is_new:
            _record("finding.opened", finding, actor, now)
        else:
            Finding.objects.filter(pk=finding.pk, closed_at=None).update(**fresh)
            finding.refresh_from_db()
    return finding


def close(
    *, kind: FindingKind, subject: Subject, sentence: str, now: datetime, detail: str | None = None
) -> int:
    """Close what is open of this kind and subject, because it no longer holds; return how many.

    `detail` narrows it to one; None means all. Runs in the caller's transaction.
    """
    with transaction.atomic():
        found = Finding.objects.select_for_update().filter(
            kind=kind, subject_kind=subject.kind, subject_id=subject.id, closed_at=None
        )
        rows = list(found if detail is None else found.filter(detail=detail[:300]))
        for finding in rows:
            _close(finding, _SYSTEM, sentence, now)
    return len(rows)


def close_gone(
    *, kind: FindingKind, subject: Subject, still: Collection[str], sentence: str, now: datetime
) -> int:
    """Close what is open of this kind and subject, except the details that still hold."""
    with transaction.atomic():
        rows = Finding.objects.select_for_update().filter(
            kind=kind, subject_kind=subject.kind, subject_id=subject.id, closed_at=None
        )
        gone = [finding for finding in rows if finding.detail not in still]
        for finding in gone:
            _close(finding, _SYSTEM, sentence, now)
    return len(gone)


def subject_of(finding: Finding) -> Subject:
    """Return what a finding is about, as it was when that was found."""
    return Subject(finding.subject_kind, finding.subject_id, finding.subject_label)


def dismiss(*, finding_id: UUID, actor: Actor, reason: str, now: datetime) -> Finding:
    """Close one finding by hand, with a reason. Raises NotVisible when it is not open."""
    with transaction.atomic(durable=True):
        finding = Finding.objects.select_for_update().filter(pk=finding_id, closed_at=None).first()
        if finding is None:
            raise NotVisible(str(finding_id))
        _close(finding, actor, reason, now)
    return finding


def _close(finding: Finding, actor: Actor, sentence: str, now: datetime) -> None:
    finding.closed_at, finding.closed_by, finding.closing = now, actor.label, sentence
    finding.save(update_fields=["closed_at", "closed_by", "closing"])
    _record("finding.closed", finding, actor, now)


def _record(event: str, finding: Finding, actor: Actor, now: datetime) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(finding),
        now=now,
        fields={
            "kind": str(finding.kind),
            "sentence": finding.closing or finding.sentence,
            "detail": finding.detail,
        },
    )
