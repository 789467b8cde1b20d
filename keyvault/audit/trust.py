"""What the console may honestly say about its own ledger, from cheap queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from keyvault.audit import checkpoints, protection, sequencer, tree
from keyvault.audit.models import Checkpoint, VerificationRun
from keyvault.audit.protection import Protection

LATE_S = 10
State = VerificationRun.State


@dataclass(frozen=True, slots=True)
class Trust:
    """The state of the ledger: `level` is ok, warn or bad; `sentence` says why.

    `waiting` events are committed and have no place in the tree yet; `lag_s` is
    the age of the oldest of them in seconds.
    """

    level: str
    sentence: str
    size: int
    waiting: int
    lag_s: int
    checkpoint: int
    checkpoint_size: int
    checkpoint_at: datetime | None
    verified_at: datetime | None
    verified_size: int
    protection: Protection
    is_offsite: bool


def trust(now: datetime) -> Trust:
    """Return what can be said of the ledger now."""
    last = Checkpoint.objects.order_by("-number").first()
    ended = (State.INTACT, State.BROKEN)
    run = VerificationRun.objects.filter(state__in=ended).order_by("-finished_at").first()
    oldest = sequencer.waiting().order_by("at").first()
    lag_s = max(round((now - oldest.at).total_seconds()), 0) if oldest else 0
    guard = protection.found()
    level, sentence = _judge(last=last, run=run, lag_s=lag_s, guard=guard, now=now)
    return Trust(
        level=level,
        sentence=sentence,
        size=tree.state().size,
        waiting=sequencer.waiting()[:1000].count() if oldest else 0,
        lag_s=lag_s,
        checkpoint=last.number if last else 0,
        checkpoint_size=last.size if last else 0,
        checkpoint_at=last.at if last else None,
        verified_at=run.finished_at if run else None,
        verified_size=run.checked if run else 0,
        protection=guard,
        is_offsite=settings.CHECKPOINT_OFFSITE,
    )


def public_key() -> str:
    """Return the ledger's public key in one line, or "" while the process is sealed."""
    try:
        return str(checkpoints.verifier())
    except checkpoints.NoSigner:
        return ""


def _judge(
    *,
    last: Checkpoint | None,
    run: VerificationRun | None,
    lag_s: int,
    guard: Protection,
    now: datetime,
) -> tuple[str, str]:
    found = (
        (
            run is not None and run.state == State.BROKEN,
            "bad",
            "The last verification found the ledger altered.",
        ),
        (guard == Protection.NONE, "bad", "The tables of the ledger are not protected."),
        (last is None, "warn", "No checkpoint has been signed yet."),
        (
            last is not None and now - last.at > _silence(),
            "bad",
            "No checkpoint has been signed lately: is the clock process running?",
        ),
        (lag_s > LATE_S, "warn", f"Events have waited {lag_s} s for their place in the ledger."),
        (
            guard == Protection.TRIGGER,
            "warn",
            "Protected by trigger only: the console's database role owns the ledger.",
        ),
        (not settings.CHECKPOINT_OFFSITE, "warn", "Checkpoints are kept on this host only."),
        (True, "ok", "Signed, exported and protected."),
    )
    return next((level, sentence) for applies, level, sentence in found if applies)


def _silence() -> timedelta:
    return timedelta(seconds=5 * settings.CHECKPOINT_SECONDS)
