"""What people should look at: reads only."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from keyvault.findings.models import Finding


def open_findings(limit: int = 50) -> Sequence[Finding]:
    """Return what is open, newest first."""
    return list(Finding.objects.filter(closed_at=None)[:limit])


def of_kind(kind: str) -> Sequence[Finding]:
    """Return what is open of one kind, newest first."""
    return list(Finding.objects.filter(kind=kind, closed_at=None))


def open_count() -> int:
    """Return how many findings are open."""
    return Finding.objects.filter(closed_at=None).count()


def for_subject(kind: str, subject_id: str, *, include_closed: bool = False) -> Sequence[Finding]:
    """Return the findings about one thing, newest first."""
    found = Finding.objects.filter(subject_kind=kind, subject_id=subject_id)
    return list(found if include_closed else found.filter(closed_at=None))


def by_subject(kind: str, subject_ids: Collection[str]) -> dict[str, list[Finding]]:
    """Return what is open about each of several things, newest first, in one query."""
    found: dict[str, list[Finding]] = {}
    rows = Finding.objects.filter(subject_kind=kind, subject_id__in=subject_ids, closed_at=None)
    for finding in rows:
        found.setdefault(finding.subject_id, []).append(finding)
    return found


def subjects(kind: str, *, kinds: Collection[str]) -> frozenset[str]:
    """Return the ids of the things of one kind about which findings of some kinds are open."""
    rows = Finding.objects.filter(subject_kind=kind, kind__in=kinds, closed_at=None)
    return frozenset(rows.values_list("subject_id", flat=True))
