"""Start a child that cannot outlive its supervisor, and end one that did.

Three nets, from the quickest to the last. The kernel signals a direct child
when its supervisor dies (PR_SET_PDEATHSIG). A process that itself forks, like
the console's server, has its own children call `die_with_parent`. And what is
left over is found at the next start by its pid file and ended first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

SUPERVISED = "KEYVAULT_SUPERVISED"
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.05
_INIT = 1  # The process that inherits orphans.
_STARTED_AT_FIELD = 19  # proc(5): field 22 of stat, counted from the one after the name.


def dying_with(death_signal: signal.Signals) -> Callable[[], None]:
    """Return what a child runs before exec, so that the kernel signals it when we die.

    Linux only; elsewhere the pid file is the net.
    """
    if not sys.platform.startswith("linux"):
        return lambda: None
    # Loaded before the fork: between fork and exec a child must not import or allocate much.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        # The supervisor may have died before the line above took effect.
        if os.getppid() != parent:
            os._exit(1)

    return before_exec


def die_with_parent() -> None:
    """End this process with the one that forked it, when a supervisor started that one."""
    if os.environ.get(SUPERVISED) and sys.platform.startswith("linux"):
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        # It may have died before the line above, or while this process was still importing.
        if os.getppid() != parent or parent == _INIT:
            os._exit(1)


def started_at(pid: int) -> str:
    """Return when a process started, in the kernel's ticks; empty when there is none.

    A pid alone may have been given to somebody else; with this it is certain.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(") ")[2].split()
    return "" if fields[0] == "Z" else fields[_STARTED_AT_FIELD]


def note(run_dir: Path, name: str, pid: int) -> None:
    """Write down a child, so that a later start can find it."""
    (run_dir / f"{name}.pid").write_text(f"{pid} {started_at(pid)}\n", encoding="ascii")


def forget(run_dir: Path, name: str) -> None:
    """Strike a child that has ended."""
    (run_dir / f"{name}.pid").unlink(missing_ok=True)


def end_leftovers(run_dir: Path, *, patience_s: float = 20) -> list[str]:
    """End what an earlier supervisor left behind and return the names.

    Call it with the directory's lock held. Asks with SIGINT, which every one of
    our children takes as "stop now, cleanly", and kills after `patience_s` seconds.
    """
    found: dict[str, int] = {}
    for file in sorted(run_dir.glob("*.pid")):
        written, _, began = file.read_text(encoding="ascii").strip().partition(" ")
        if written.isdigit() and began and started_at(int(written)) == began:
            found[file.stem] = int(written)
        file.unlink()
    for ask in (signal.SIGINT, signal.SIGKILL):
        for pid in found.values():
            signal_group(pid, ask)
        if _wait_gone(found.values(), patience_s):
            break
    return list(found)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a child and all of its group; a child that is gone is fine."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _wait_gone(pids: Iterable[int], patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    waiting = [pid for pid in pids if started_at(pid)]
    while waiting and time.monotonic() < until:
        time.sleep(_POLL_S)
        waiting = [pid for pid in waiting if started_at(pid)]
    return not waiting
