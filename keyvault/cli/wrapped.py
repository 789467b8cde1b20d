"""Run a command with its output masked, its signals passed on, and anew when it must be.

In a terminal the command gets one of its own. Otherwise output goes through
pipes: each stream keeps its own bytes and order, and the child stays in our
process group, so that Ctrl-C reaches it by itself. What is sent to us alone is
passed on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from types import FrameType
from typing import IO

from keyvault.cli import terminals
from keyvault.cli.codes import Exit
from keyvault.cli.masking import Masker
from keyvault.launcher.sentences import Stop

_CHUNK = 65_536
# What a grandchild that keeps the pipe open may still say after the command has ended.
_DRAIN_S = 2.0
_ENDS = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGQUIT})
_FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT})
PASSED_ON = (*sorted(_ENDS), signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Wrapped:
    """One command and its successive processes."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        values: Iterable[str],
        grace_s: float,
    ) -> None:
        """Take what to run. grace_s: how long a process may take to end before it is killed."""
        self._command, self._grace_s = list(command), grace_s
        self._env, self._values = dict(env), set(values)
        self._process: subprocess.Popen[bytes] | None = None
        self._maskers: list[Masker] = []
        self._again = False
        self._ended_by: int | None = None
        self._terminal = terminals.ours()

    def run(self) -> int:
        """Run until the command ends by itself; return its code, 128+n for signal n. Raises Stop."""
        before = {number: signal.signal(number, self._pass_on) for number in PASSED_ON}
        try:
            with self._terminal or nullcontext():
                return self._run_to_the_end()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def restart(self, env: Mapping[str, str], values: Iterable[str]) -> None:
        """End the running process and start the next with another environment; any thread."""
        self._env = dict(env)
        self.mask(values)
        self._again = True
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        timer = threading.Timer(self._grace_s, process.kill)
        timer.daemon = True
        timer.start()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the running process; any thread."""
        if self._process is not None:
            self._process.send_signal(number)

    def mask(self, values: Iterable[str]) -> None:
        """Mask further values from now on."""
        self._values |= set(values)
        for masker in self._maskers:
            masker.also(self._values)

    def _run_to_the_end(self) -> int:
        while True:
            code = self._run_once()
            if not self._again or self._ended_by is not None:
                return code
            self._again = False

    def _run_once(self) -> int:
        process = self._process = self._started()
        pumps = [
            self._pump(partial(_pass, source, target.fileno()))
            for source, target in ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
            if source is not None
        ]
        relay = self._pump(self._terminal.relay) if self._terminal else None
        if self._ended_by is not None:
            # It came while there was nobody to pass it on to.
            process.send_signal(self._ended_by)
        code = process.wait()
        for pump in pumps:
            pump.join(_DRAIN_S)
        if self._terminal and relay:
            # It ends: the end of a session's leader hangs up its terminal for everybody.
            relay.join()
            self._terminal.close()
        return code if code >= 0 else 128 - code

    def _started(self) -> subprocess.Popen[bytes]:
        try:
            if self._terminal is None:
                return self._spawned(subprocess.PIPE, subprocess.PIPE)
            return self._on_terminal(self._terminal.open())
        except OSError as error:
            if self._is_nowhere(error):
                missing = f"there is no command {self._command[0]!r}."
                raise Stop(missing, code=Exit.NOT_FOUND) from None
            message = f"{self._command[0]!r} cannot be run: {error.strerror}."
            raise Stop(message, code=Exit.NOT_EXECUTABLE) from None

    def _on_terminal(self, slave: int) -> subprocess.Popen[bytes]:
        """Start it as the leader of a session in its terminal; errors sent elsewhere stay there."""
        errors = slave if sys.stderr is not None and sys.stderr.isatty() else subprocess.PIPE
        try:
            return self._spawned(slave, errors, terminal=slave)
        finally:
            os.close(slave)

    def _spawned(
        self, stdout: int, stderr: int, *, terminal: int | None = None
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - running it is the task.
            self._command,
            env=self._env,
            stdin=terminal,
            stdout=stdout,
            stderr=stderr,
            bufsize=0,
            start_new_session=terminal is not None,
            # One system call, which takes no lock that another thread may hold.
            preexec_fn=None if terminal is None else terminals.control,  # noqa: PLW1509
        )

    def _is_nowhere(self, error: OSError) -> bool:
        """Say whether the command is missing: a directory of PATH that is closed hides that."""
        if "/" in self._command[0]:
            return isinstance(error, FileNotFoundError)
        return shutil.which(self._command[0], mode=os.F_OK, path=self._env.get("PATH")) is None

    def _pump(self, copy: Callable[[Masker], None]) -> threading.Thread:
        masker = Masker(self._values)
        self._maskers.append(masker)
        thread = threading.Thread(target=copy, args=(masker,), daemon=True)
        thread.start()
        return thread

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if number in _ENDS:
            self._ended_by = number
        shares_ours = self._terminal is None and sys.stdin is not None and sys.stdin.isatty()
        is_told = number in _FROM_TERMINAL and shares_ours
        if self._process is not None and not is_told:
            self._process.send_signal(number)


def _pass(source: IO[bytes], target: int, masker: Masker) -> None:
    """Copy a stream to its end, masked. Once nobody reads, the command is told by its pipe."""
    try:
        with source:
            while chunk := source.read(_CHUNK):
                terminals.write_all(target, masker.feed(chunk))
            terminals.write_all(target, masker.end())
    except BrokenPipeError:
        pass
