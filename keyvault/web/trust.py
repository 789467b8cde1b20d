"""The trust strip: what this installation says about itself, in three honest lines."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from approvals import queue
from keyvault.accounts import selectors as accounts
from keyvault.audit import trust as audit
from keyvault.vault import seals
from keyvault.web import moments
from keyvault.web.known import known

# A due job is taken within seconds; a minute means that nobody works.
LATE, STOPPED = timedelta(seconds=20), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Line:
    """One line: a dot (ok, warn, bad or "" for unknown), what it is about, and its state."""

    dot: str
    label: str
    text: str


def lines(now: datetime) -> list[Line]:
    """Return the lines for ledger, work and vault, and one more while in solo mode."""
    found = [
        known("ledger", lambda: ledger(now)) or Line("", "Ledger", "unknown"),
        known("work", lambda: work(now)) or Line("", "Work", "unknown"),
        known("vault", vault) or Line("", "Vault", "unknown"),
    ]
    if known("solo", accounts.solo):
        found.append(Line("warn", "Solo mode", "one administrator"))
    return found


def ledger(now: datetime) -> Line:
    """Return how old the last signed checkpoint is; red when the ledger cannot be trusted."""
    found = audit.trust(now)
    if found.level == "bad":
        return Line("bad", "Ledger", "needs a look")
    if found.checkpoint_at is None:
        return Line(found.level, "Ledger", "not signed yet")
    return Line(found.level, "Ledger", f"signed {moments.span(now - found.checkpoint_at)} ago")


def work(now: datetime) -> Line:
    """Return whether due jobs are taken, and how many wait for a person."""
    held = len(queue.held())
    oldest = queue.oldest_due_at()
    waits = now - oldest if oldest else timedelta(0)
    if waits >= STOPPED:
        return Line("bad", "Work", f"stopped for {moments.span(waits)}")
    if held:
        return Line("warn", "Work", f"{held} job{'' if held == 1 else 's'} held")
    if waits >= LATE:
        return Line("warn", "Work", f"{moments.span(waits)} behind")
    return Line("ok", "Work", "up to date")


def vault() -> Line:
    """Return whether this process can open and seal."""
    sealed = seals.seal_state().is_sealed
    return Line("bad", "Vault", "sealed") if sealed else Line("ok", "Vault", "open")
