"""The closed table of states: the word, colour and icon that stand for each of them.

PRODUCT's table of states is the source; a test compares the two. Past states
are grey, because red asks the reader to act.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = frozenset({"", "ok", "warn", "bad", "info", "bot"})


@dataclass(frozen=True, slots=True)
class Word:
    """How one state reads: the word, the badge's kind and its icon."""

    word: str
    kind: str
    icon: str


STATES: dict[str, dict[str, Word]] = {
    "request": {
        "draft": Word("Draft", "", "edit"),
        "pending": Word("Waiting", "warn", "clock"),
        "changes_asked": Word("Changes asked", "warn", "msg"),
        "approved": Word("Approved", "ok", "check"),
        "executing": Word("Running", "info", "rotate"),
        "done": Word("Done", "ok", "check"),
        "rejected": Word("Rejected", "", "x"),
        "expired": Word("Lapsed", "", "clock"),
        "withdrawn": Word("Withdrawn", "", "x"),
        "invalidated": Word("Changed since", "warn", "alert"),
        "failed": Word("Failed", "bad", "alert"),
    },
    "key": {
        "requested": Word("Requested", "info", "ask"),
        "live": Word("Active", "ok", "check"),
        "suspended": Word("Suspended", "warn", "lock"),
        "revoked": Word("Revoked", "", "x"),
    },
    "mark": {
        "rotating": Word("Rotating", "info", "rotate"),
        "expiring": Word("Expiring", "warn", "clock"),
        "overdue": Word("Overdue", "bad", "alert"),
    },
    "version": {
        "pending": Word("Rolling out", "info", "rotate"),
        "current": Word("Current", "ok", "check"),
        "previous": Word("Grace", "warn", "clock"),
        "revoked": Word("Revoked", "", "x"),
        "destroyed": Word("Destroyed", "", "x"),
    },
    "rotation": {
        "planned": Word("Planned", "", "clock"),
        "creating": Word("Creating", "info", "rotate"),
        "reconciling": Word("Creating", "info", "rotate"),
        "created": Word("Creating", "info", "rotate"),
        "validated": Word("Staging", "info", "rotate"),
        "staged": Word("Staging", "info", "rotate"),
        "promoting": Word("Rolling out", "info", "rotate"),
        "draining": Word("Draining", "info", "clock"),
        "brownout": Word("Brown-out", "warn", "clock"),
        "revoking": Word("Revoking", "info", "rotate"),
        "revoke_verified": Word("Revoking", "info", "rotate"),
        "completed": Word("Done", "ok", "check"),
        "held": Word("Held", "bad", "alert"),
        "rolling_back": Word("Rolling back", "warn", "rotate"),
        "rolled_back": Word("Rolled back", "warn", "rotate"),
    },
    "delivery": {
        "waiting": Word("Waiting", "", "clock"),
        "writing": Word("Writing", "info", "rotate"),
        "restarting": Word("Restarting", "info", "rotate"),
        "confirmed": Word("Confirmed", "ok", "check"),
        "failed": Word("Failed", "bad", "alert"),
        "excused": Word("Excused", "", "x"),
    },
    "lease": {
        "minting": Word("Being made", "info", "rotate"),
        "open": Word("Open", "ok", "check"),
        "ending": Word("Ending", "info", "clock"),
        "returned": Word("Returned", "", "check"),
        "expired": Word("Over", "", "clock"),
        "withdrawn": Word("Withdrawn", "", "x"),
        "orphaned": Word("Lost", "warn", "alert"),
        "failed": Word("Failed", "bad", "alert"),
    },
    "agent": {
        "active": Word("Active", "ok", "check"),
        "suspended": Word("Suspended", "warn", "lock"),
        "retired": Word("Retired", "", "x"),
    },
    "problem": {
        "orphan": Word("No living owner", "bad", "alert"),
        "ending": Word("Secret ends soon", "warn", "clock"),
        "idle": Word("Unused for 90 days", "warn", "clock"),
    },
    "verdict": {
        "approve": Word("Approved", "ok", "check"),
        "changes": Word("Changes asked", "warn", "msg"),
        "reject": Word("Rejected", "", "x"),
    },
    "job": {
        "ready": Word("Ready", "", "clock"),
        "running": Word("Running", "info", "rotate"),
        "held": Word("Held", "bad", "alert"),
        "done": Word("Done", "ok", "check"),
    },
    "event": {
        "ok": Word("Recorded", "", "check"),
        "refused": Word("Refused", "bad", "x"),
        "error": Word("Error", "bad", "alert"),
    },
}


def word(thing: str, state: str) -> Word:
    """Return how a state of a thing reads. Raises LookupError on one that is not in the table."""
    try:
        return STATES[thing][str(state).lower()]
    except KeyError:
        message = f"{state!r} is not a state of a {thing}"
        raise LookupError(message) from None
