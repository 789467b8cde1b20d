"""Look at every provider again and again, and settle what does not match our records.

A worker that was paused before its create call leaves a credential that
nothing else can find (ROTATION.md rule 10). The clock promises one job per
Connection and period; a provider that fails delays its own Connection only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from approvals import queue
from approvals.ports import Actor, Run, Unfinished
from keyvault.audit import ledger
from keyvault.connections import attempts, calls, places, schedule, shadows, trials
from keyvault.connections.comparing import Comparison, Standing, compare
from keyvault.connections.context import Reach, reach, subject_of
from keyvault.connections.models import Attempt, AttemptState, Connection
from keyvault.crypto.keyring import NoKey
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.plugins.loading import UnknownKind
from keyvault.providers.base import Provider, RemoteKey
from keyvault.vault import selectors as versions
from keyvault.vault.sealing import Unreadable

if TYPE_CHECKING:
    from keyvault.vault.models import Version

JOB = "connection.inventory"
CLOCK = Actor("system", "inventory", "Inventory")
_MOST_PAGES = 1000
_PATIENCE = 2
_MOVED = "moved"
_NAMED = 3


def run(*, now: datetime) -> int:
    """Promise a look at each Connection that is due; return how many. Called by the clock."""
    due = schedule.due(now)
    for connection_id in due:
        with transaction.atomic():
            schedule.take(connection_id=connection_id, now=now)
            queue.enqueue(kind=JOB, subject_id=connection_id)
    return len(due)


@queue.handler(JOB)
def look(connection_id: UUID, run: Run) -> None:
    """Look at one Connection. A failure is noted and made a finding; the next period tries again.

    Raises LostClaim.
    """
    connection = Connection.objects.filter(pk=connection_id).first()
    if connection is None:
        return
    try:
        with reach(connection, actor=CLOCK, now=run.now, purpose="inventory") as reached:
            comparison = _compare(reached)
            if comparison is not None:
                run.reached("inventory:listed")
                _settle(reached, comparison, run)
    except (Unfinished, UnknownKind, Unreadable, NoKey) as stop:
        _note_failure(connection, str(stop), run)
        return
    _note_success(connection, comparison, run)


def _compare(reached: Reach[Provider]) -> Comparison | None:
    """Return what a listing shows, or None where no program can list."""
    with calls.spoken():
        if reached.plugin.capabilities(reached.call()).is_all_by_hand:
            return None
    believed = _believed(reached.connection)
    found = _listing(reached)
    tags = [key.tag for key in found if key.tag]
    rows = attempts.by_tags(reached.connection.pk, tags)
    standings = _standings(list(rows.values())) | trials.standings(reached.connection.pk, tags)
    return compare(found, standings=standings, believed=believed)


def _believed(connection: Connection) -> dict[str, Version]:
    """Return what must be alive where the Connection leads now, by the provider's identity."""
    return {
        version.remote_id: version
        for version in versions.expected_through(connection.pk)
        if places.is_within_reach(version, connection)
    }


def _listing(reached: Reach[Provider]) -> list[RemoteKey]:
    found: list[RemoteKey] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        with calls.spoken():
            page = reached.plugin.inventory(reached.call(), cursor)
        found.extend(page.items)
        cursor = page.cursor
        if cursor is None:
            return found
    raise Unfinished("endless", "The provider's listing does not end.")


def _standings(rows: Sequence[Attempt]) -> dict[str, Standing]:
    """Say for each attempt by tag whether its credential is on its way, in use or over."""
    done = [row.version_id for row in rows if row.state == AttemptState.DONE]
    in_use = versions.in_use(done)
    words = {AttemptState.OPEN: Standing.IN_FLIGHT}
    return {
        row.tag: Standing.IN_USE
        if row.version_id in in_use and row.state == AttemptState.DONE
        else words.get(AttemptState(row.state), Standing.OVER)
        for row in rows
    }


def _settle(reached: Reach[Provider], comparison: Comparison, run: Run) -> None:
    for key in comparison.over:
        _end_orphan(reached, key, run)
    _name_strangers(reached, comparison.strange, run)
    _name_missing(reached, comparison.missing, run)
    _name_left_behind(reached, run)


def _end_orphan(reached: Reach[Provider], key: RemoteKey, run: Run) -> None:
    """End what we made and gave up: first make it visible, then end it, then say so."""
    subject = subject_of(reached.connection)
    with transaction.atomic(durable=True):
        run.fence()
        findings.open(
            kind=FindingKind.ORPHAN,
            subject=subject,
            detail=key.remote_id,
            sentence=f"{key.remote_id} was made by keyvault ({key.tag}) and belongs to no key.",
            evidence=key.to_json(),
            now=run.now,
            actor=CLOCK,
        )
    run.reached("inventory:flagged")
    with calls.spoken():
        reached.plugin.revoke(reached.call(), key, kill_sessions=True)
    run.reached("inventory:revoked")
    with transaction.atomic(durable=True):
        run.fence()
        ledger.record(
            "connection.orphan_revoked",
            actor=CLOCK,
            subject=subject,
            now=run.now,
            fields={"remote_id": key.remote_id, "tag": key.tag},
        )
        findings.close(
            kind=FindingKind.ORPHAN,
            subject=subject,
            detail=key.remote_id,
            sentence="It was revoked at the provider.",
            now=run.now,
        )


def _name_strangers(reached: Reach[Provider], strange: Sequence[RemoteKey], run: Run) -> None:
    subject = subject_of(reached.connection)
    with transaction.atomic(durable=True):
        run.fence()
        for key in strange:
            findings.open(
                kind=FindingKind.ORPHAN,
                subject=subject,
                detail=key.remote_id,
                sentence=(
                    f"{key.remote_id} bears keyvault's label ({key.tag}), but this installation "
                    "knows no such attempt. If no other installation owns it, end it there."
                ),
                evidence=key.to_json(),
                now=run.now,
                actor=CLOCK,
            )
        seen = {key.remote_id for key in strange}
        findings.close_gone(
            kind=FindingKind.ORPHAN,
            subject=subject,
            still=seen,
            sentence="It is no longer at the provider.",
            now=run.now,
        )


def _name_missing(reached: Reach[Provider], missing: Sequence[str], run: Run) -> None:
    """Say which versions in use are gone, unless they have ended since the listing."""
    still = _believed(reached.connection)
    subject = subject_of(reached.connection)
    gone = [remote_id for remote_id in missing if remote_id in still]
    with transaction.atomic(durable=True):
        run.fence()
        for remote_id in gone:
            version = still[remote_id]
            findings.open(
                kind=FindingKind.DEAD,
                subject=subject,
                detail=remote_id,
                sentence=(
                    f"Version {version.number} of {version.key.name} is in use here, but "
                    f"{remote_id} no longer works at the provider."
                ),
                evidence={"key_id": str(version.key_id), "version_id": str(version.pk)},
                now=run.now,
                actor=CLOCK,
            )
        findings.close_gone(
            kind=FindingKind.DEAD,
            subject=subject,
            still=set(gone),
            sentence="It works again, or its version has ended.",
            now=run.now,
        )


def _name_left_behind(reached: Reach[Provider], run: Run) -> None:
    """Say which versions in use no listing here can speak of: they were issued elsewhere."""
    connection, subject = reached.connection, subject_of(reached.connection)
    behind = [
        version
        for version in versions.in_use_through(connection.pk)
        # What was adopted without its id came from nowhere else; its page says what is missing.
        if not places.is_within_reach(version, connection) and not version.is_nameless
    ]
    with transaction.atomic(durable=True):
        run.fence()
        if not behind:
            findings.close(
                kind=FindingKind.CONNECTION,
                subject=subject,
                detail=_MOVED,
                sentence="Every version in use was issued where it leads.",
                now=run.now,
            )
            return
        findings.open(
            kind=FindingKind.CONNECTION,
            subject=subject,
            detail=_MOVED,
            sentence=_left_behind(connection, behind),
            evidence={"version_ids": [str(version.pk) for version in behind]},
            now=run.now,
            actor=CLOCK,
        )


def _left_behind(connection: Connection, behind: Sequence[Version]) -> str:
    named = [f"version {version.number} of {version.key.name}" for version in behind]
    listed = ", ".join(named[:_NAMED]) + (", and others" if len(named) > _NAMED else "")
    return (
        f"{connection.title} leads to {places.named(places.leads_to(connection))}, but {listed} "
        f"came from {places.named(behind[0].server)}. What was issued there is neither "
        "looked at nor revoked from here: have the Connection changed back, or revoke by hand."
    )


def _note_success(connection: Connection, comparison: Comparison | None, run: Run) -> None:
    with transaction.atomic(durable=True):
        run.fence()
        Connection.objects.filter(pk=connection.pk).update(
            inventoried_at=run.now,
            inventory_failures=0,
            foreign_count=comparison.foreign_count if comparison else 0,
        )
        # One may have been adopted since the listing.
        ours = _believed(connection)
        found = comparison.foreign if comparison else ()
        foreign = [key for key in found if key.remote_id not in ours]
        shadows.note(connection=connection, foreign=foreign, now=run.now)
        findings.close(
            kind=FindingKind.CONNECTION,
            subject=subject_of(connection),
            detail="inventory",
            sentence="The provider answers again.",
            now=run.now,
        )


def _note_failure(connection: Connection, sentence: str, run: Run) -> None:
    with transaction.atomic(durable=True):
        run.fence()
        failures = connection.inventory_failures + 1
        Connection.objects.filter(pk=connection.pk).update(inventory_failures=failures)
        if failures >= _PATIENCE:
            findings.open(
                kind=FindingKind.CONNECTION,
                subject=subject_of(connection),
                detail="inventory",
                sentence=f"{connection.title} could not be looked at {failures} times. {sentence}",
                now=run.now,
                actor=CLOCK,
            )
