"""The leases of one command: taken at its start, made to last, and returned at its end."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.client import Client, Lease, Value

# Short, so that what a killed command leaves behind ends soon by itself.
TTL_S = 900
# A lease is made to last longer when this part of what is left of it is over.
AHEAD = 0.6
AGAIN_S = 5.0


class Lending:
    """What one command holds. `client`: with the agent's own identity."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[str, Lease] = {}
        self._left: list[Lease] = []
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, name: str) -> Value:
        """Take a lease of a key and return its value. Raises what the client raises."""
        self._held[name] = self._client.take_lease(name, ttl_s=TTL_S)
        return self._held[name].value

    def follow(self, act: Callable[[Value], None] | None) -> None:
        """Keep what is held, in the background; nothing to do where nothing is.

        act: called with each value that takes the place of another; without it the command
        keeps the values of its start, and is told when one of them can last no longer.
        """
        if self._held:
            self._thread = threading.Thread(target=self._keep, args=(act,), daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Return all that was taken; say what could not be, which ends by itself."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()
        self._give_back([*self._left, *self._held.values()])

    def _keep(self, act: Callable[[Value], None] | None) -> None:
        due = {name: _next(lease) for name, lease in self._held.items()}
        while due:
            name = min(due, key=lambda one: due[one])
            if self._is_over.wait(max(due[name] - time.time(), 0)):
                return
            again = self._renewed(name, act)
            if again is None:
                del due[name]
            else:
                due[name] = again

    def _renewed(self, name: str, act: Callable[[Value], None] | None) -> float | None:
        """Keep one lease; return when to look again, or None where nothing is left to do."""
        from keyvault.client import Away, BadIdentity, NotGranted, Refused  # noqa: PLC0415

        lease = self._held[name]
        try:
            self._held[name] = self._client.renew_lease(lease, ttl_s=TTL_S)
        except Away:
            return time.time() + AGAIN_S
        except (NotGranted, BadIdentity) as error:
            _say(f"{error} The command goes on with what it has of {name}.")
            return None
        except Refused as error:
            return self._replaced(name, error, act)
        return _next(self._held[name])

    def _replaced(
        self, name: str, why: Exception, act: Callable[[Value], None] | None
    ) -> float | None:
        """Take a new lease in place of one that can last no longer."""
        from keyvault.client import Away, BadIdentity, Refused  # noqa: PLC0415

        if act is None:
            _say(f"{name}: {why} With --on-change restart the command would get one.")
            return None
        old = self._held[name]
        try:
            value = self.take(name)
        except Away:
            return time.time() + AGAIN_S
        except (Refused, BadIdentity) as error:
            _say(f"{error} The command goes on with what it has of {name}.")
            return None
        # It may be in use until the command has come to the new one.
        self._left.append(old)
        act(value)
        return _next(self._held[name])

    def _give_back(self, leases: list[Lease]) -> None:
        from keyvault.cli import connecting  # noqa: PLC0415

        for lease in leases:
            try:
                with connecting.said():
                    self._client.return_lease(lease)
            except Stop as stop:
                _say(
                    f"The lease of {lease.value.key} could not be returned. {stop} It ends by "
                    f"itself at {lease.expires_at:%H:%M:%S} UTC."
                )


@contextmanager
def lending(client: Client) -> Iterator[Lending]:
    """Return what was taken when the block ends, however it does."""
    found = Lending(client)
    try:
        yield found
    finally:
        found.close()


def _next(lease: Lease) -> float:
    left_s = lease.expires_at.timestamp() - time.time()
    return time.time() + max(left_s, 0) * AHEAD


def _say(sentence: str) -> None:
    print(f"keyvault: {sentence}", file=sys.stderr)
