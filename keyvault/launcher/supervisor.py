"""Run a handful of children: ready in order, restarted with backoff, stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from keyvault.launcher import children
from keyvault.launcher.sentences import Stop

Ready = Callable[[], Awaitable[bool]]

_POLL_S = 0.05
_LOG_BYTES = 10_000_000
_TAIL_BYTES = 4000


async def at_once() -> bool:
    """Be ready as soon as the process runs: for children that nobody waits for."""
    return True


@dataclass(frozen=True, slots=True)
class Service:
    """One child: how it is started, how it shows that it is ready, how it is stopped.

    `death_signal` is what the kernel sends when the supervisor itself dies.
    `mend` is added to the sentence when the child does not come up.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Ready = at_once
    ready_s: float = 60
    stop_signal: signal.Signals = signal.SIGTERM
    stop_s: float = 15
    death_signal: signal.Signals = signal.SIGKILL
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a child is started again: doubling, and reset by a good run."""

    first_s: float = 0.5
    most_s: float = 30
    good_run_s: float = 60
    tries: int = 3  # so often may a child end before it was ever ready

    def delay_s(self, failures: int) -> float:
        """Return the wait after the given number of failures in a row."""
        return float(min(self.first_s * 2 ** (failures - 1), self.most_s))


@dataclass(slots=True)
class _Child:
    service: Service
    came_up: asyncio.Event = field(default_factory=asyncio.Event)
    process: Process | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0


class Supervisor:
    """Start services, keep them running, stop them all. One event loop, one process."""

    def __init__(
        self,
        *,
        log_dir: Path,
        run_dir: Path,
        say: Callable[[str], None],
        backoff: Backoff = Backoff(),
    ) -> None:
        """Write each child's output under `log_dir`; tell restarts through `say`."""
        self._log_dir, self._run_dir, self._say, self._backoff = log_dir, run_dir, say, backoff
        self._children: list[_Child] = []
        self._stopping = False

    async def start(self, *services: Service) -> None:
        """Start services side by side and return once all are ready.

        Raises Stop, with the last line of its log, for one that does not come up.
        """
        begun = [_Child(service) for service in services]
        self._children += begun
        for child in begun:
            child.task = asyncio.create_task(self._keep(child), name=child.service.name)
        await asyncio.gather(*(self._until_ready(child) for child in begun))

    async def stop(self) -> None:
        """Stop all children, the last started first. Never raises for a child's sake."""
        self._stopping = True
        for child in reversed(self._children):
            if child.task is not None:
                child.task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._end(child)

    def pid(self, name: str) -> int | None:
        """Return the process id of a running child."""
        for child in self._children:
            if child.service.name == name and child.process is not None:
                return child.process.pid
        return None

    async def _keep(self, child: _Child) -> None:
        while not self._stopping:
            began = time.monotonic()
            code = await self._run_once(child)
            if time.monotonic() - began >= self._backoff.good_run_s:
                child.failures = 0
            child.failures += 1
            if not child.came_up.is_set() and child.failures >= self._backoff.tries:
                return
            delay_s = self._backoff.delay_s(child.failures)
            self._say(
                f"{child.service.name} ended ({_ending(code)}); started again in {delay_s:.1f} s; "
                f"its log: {self._log(child)}"
            )
            await asyncio.sleep(delay_s)

    async def _run_once(self, child: _Child) -> int:
        service, path = child.service, self._log(child)
        if path.exists() and path.stat().st_size > _LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        with path.open("ab") as log:
            child.process = await asyncio.create_subprocess_exec(
                *service.argv,
                env=dict(service.env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=children.dying_with(service.death_signal),
            )
        children.note(self._run_dir, service.name, child.process.pid)
        code = await child.process.wait()
        # What a dead child forked must not hold its port or socket when it is started again.
        children.signal_group(child.process.pid, signal.SIGKILL)
        children.forget(self._run_dir, service.name)
        return code

    async def _until_ready(self, child: _Child) -> None:
        service, until = child.service, time.monotonic() + child.service.ready_s
        while time.monotonic() < until and child.task is not None and not child.task.done():
            if child.process is not None and await service.ready():
                child.came_up.set()
                return
            await asyncio.sleep(_POLL_S)
        last = _last_line(self._log(child))
        ended = child.task is None or child.task.done()
        raise Stop(
            f"{service.name} {'ended' if ended else f'was not ready after {service.ready_s:.0f} s'}"
            f"{': ' + last if last else ''}. {service.mend} The whole log: {self._log(child)}"
        )

    async def _end(self, child: _Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(child.service.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), child.service.stop_s)
        except TimeoutError:
            self._say(f"{child.service.name} does not stop by itself and is killed")
        children.signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        children.forget(self._run_dir, child.service.name)

    def _log(self, child: _Child) -> Path:
        return self._log_dir / f"{child.service.name}.log"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    return f"signal {signal.Signals(-code).name}"


def _last_line(path: Path) -> str:
    try:
        with path.open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""
