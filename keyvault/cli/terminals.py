"""Give a command a terminal of its own inside ours, so that it may be interactive.

Ours is raw meanwhile: every key goes to the command's terminal, which makes the
signals of Ctrl-C and its like for the command's foreground group.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys
import termios
import tty
from contextlib import suppress
from types import FrameType

from keyvault.cli.masking import Masker

_CHUNK = 65_536


class Terminal:
    """Our terminal, raw between enter and exit, and the one of the command that runs now."""

    def __init__(self) -> None:
        """Remember how our terminal is set."""
        self._ours, self._out = sys.stdin.fileno(), sys.stdout.fileno()
        self._attributes = termios.tcgetattr(self._ours)
        self._master = -1

    def __enter__(self) -> None:
        """Make ours raw. What was typed already is kept for the command."""
        self._before = signal.signal(signal.SIGWINCH, self._resize)
        tty.setraw(self._ours, termios.TCSANOW)

    def __exit__(self, *_error: object) -> None:
        """Set ours as it was."""
        termios.tcsetattr(self._ours, termios.TCSANOW, self._attributes)
        signal.signal(signal.SIGWINCH, self._before)

    def open(self) -> int:
        """Open a terminal for a command, set as ours was; return the command's side."""
        self._master, slave = os.openpty()
        os.set_blocking(self._master, False)
        termios.tcsetattr(slave, termios.TCSANOW, self._attributes)
        self._resize()
        return slave

    def close(self) -> None:
        """Close the command's terminal, which hangs up on whoever still has it."""
        master, self._master = self._master, -1
        os.close(master)

    def relay(self, masker: Masker) -> None:
        """Copy both ways until the command's side is closed: typed as it is, printed masked."""
        typed, sources = b"", {self._ours, self._master}
        while True:
            # No more is taken from ours than the command reads, and it can print meanwhile.
            wanted = sources - {self._ours} if typed else sources
            ready, writable, _ = select.select(wanted, [self._master] if typed else [], [])
            if self._master in ready:
                printed = _read(self._master)
                self._show(masker.feed(printed) if printed else masker.end())
                if not printed:
                    return
            if writable:
                typed = _written(self._master, typed)
            if self._ours in ready:
                typed = _read(self._ours)
                if not typed:
                    sources.discard(self._ours)

    def _resize(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Give the command's terminal the size of ours; the kernel tells the command."""
        if self._master >= 0:
            termios.tcsetwinsize(self._master, termios.tcgetwinsize(self._ours))

    def _show(self, data: bytes) -> None:
        # When ours is gone, SIGHUP tells the command; its output has nowhere to go.
        with suppress(OSError):
            write_all(self._out, data)


def ours() -> Terminal | None:
    """Return our terminal, None unless we read and print there in the foreground."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stdout and sys.stdout.isatty()):
        return None
    try:
        # To set a terminal from the background would stop us, and the command with us.
        is_foreground = os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return None  # It is a terminal, but not the one that controls us.
    return Terminal() if is_foreground else None


def write_all(target: int, data: bytes) -> None:
    """Write to a descriptor until all is written. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def control() -> None:
    """Make standard input the controlling terminal of a session that has just begun."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read(source: int) -> bytes:
    """Return what is there, nothing at the end: Linux says EIO when the other side is closed."""
    try:
        return os.read(source, _CHUNK)
    except OSError:
        return b""


def _written(target: int, data: bytes) -> bytes:
    """Write what fits and return the rest; nothing once nobody is there to read it."""
    try:
        return data[os.write(target, data) :]
    except BlockingIOError:
        return data
    except OSError:
        return b""
