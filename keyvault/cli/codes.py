"""The exit codes of every command, as docs/cli.md lists them."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What an exit code says. `run` passes on the code of its command, 128+n for a signal."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AWAY = 3
    REFUSED = 4
    NOT_SIGNED_IN = 5
    ROLLED_BACK = 6
    HELD = 7
    TIME_OVER = 8
    CHANGES = 9
    NOT_STARTED = 125
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130


MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed; the sentence on standard error says why",
    Exit.USAGE: "wrong usage, or a setting that cannot be used",
    Exit.AWAY: "the server is away; the same command may work later",
    Exit.REFUSED: "refused: not granted, or not possible in this state; the sentence says what to do",
    Exit.NOT_SIGNED_IN: "nobody is signed in, or the identity is not accepted",
    Exit.ROLLED_BACK: "`rotate --wait`: the rotation went back; the old version is in use",
    Exit.HELD: "`rotate --wait`: the rotation is held until a person decides",
    Exit.TIME_OVER: "`rotate --wait`, `apply --wait`: the time is over; what was asked goes on",
    Exit.CHANGES: "`plan`: what is differs from what the file declares",
    Exit.NOT_STARTED: "`run` could not get what its command needs, so it did not start it",
    Exit.NOT_EXECUTABLE: "`run` found its command and may not execute it",
    Exit.NOT_FOUND: "`run` did not find its command",
    Exit.INTERRUPTED: "interrupted from the keyboard",
}
