"""`POST /v1/heartbeat`: an agent says which versions it has loaded and whether it is well.

Who is still at work with the version that is to be ended? Reports are judged
like reads, kept as the newest of each agent, key and version, and written to
the database in batches: no report waits for it, and a killed process loses the
last few seconds, which the next report mends. No value goes either way.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import AsyncConnection

from keyvault.gateway import answers, problems
from keyvault.gateway.answers import Answer
from keyvault.gateway.clock import Clock
from keyvault.gateway.reads import CURRENT, Caller, Reads

log = logging.getLogger(__name__)

KEYS_MOST = 50
FLUSH_S = 2.0
# A write is given up after this, and so is what waits for it: the process has to stop in time.
_CONNECT_S, _WRITE_S = 3, 8.0
# So many agents, keys and versions at once; what is reported beyond it is told to come again.
PENDING_MOST = 50_000

_WRITE = """
INSERT INTO keyvault_loadedversion AS known (agent_id, key_id, number, is_healthy, first_at, last_at)
VALUES (%s, %s, %s, %s, to_timestamp(%s), to_timestamp(%s))
ON CONFLICT (key_id, number, agent_id) DO UPDATE SET
    is_healthy = excluded.is_healthy, last_at = excluded.last_at
WHERE known.last_at < excluded.last_at
"""

Number = Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent sends: the version that it has loaded of each key."""

    keys: dict[str, Number]
    healthy: bool = True


_DECODER = msgspec.json.Decoder(Report)
_RULE = (
    f'Send {{"keys": {{"NAME": VERSION}}, "healthy": true}} with 1 to {KEYS_MOST} keys; '
    "a version is a whole number."
)


class Heartbeats:
    """The reports that one gateway process has not written down yet."""

    def __init__(self, database_url: str, *, reads: Reads, clock: Clock) -> None:
        self._database_url, self._reads, self._clock = database_url, reads, clock
        self._pending: dict[tuple[UUID, UUID, int], tuple[bool, float]] = {}
        self._is_complaining = False

    def take(self, caller: Caller, body: bytes) -> Answer:
        """Take one report; answer with the current versions. Raises Problem."""
        who = self._reads.bearer(caller)
        report = _report(body)
        found = self._reads.find(who, list(report.keys), CURRENT)
        for one in found:
            if report.keys[one.facts.name] > one.facts.number:
                raise problems.bad_request(
                    f"{one.facts.name} has no version {report.keys[one.facts.name]} yet."
                )
        if len(self._pending) + len(found) > PENDING_MOST:
            raise problems.too_many()
        now = self._clock.now()
        for one in found:
            number = report.keys[one.facts.name]
            self._pending[who.agent.id, one.entry.id, number] = (report.healthy, now)
        current = [{"key": one.facts.name, "version": one.facts.number} for one in found]
        return answers.of_json(200, {"keys": current})

    async def run(self) -> None:
        """Write down what has come, every two seconds, for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        """Write down what has come; what cannot be written is kept and tried again."""
        taken, self._pending = self._pending, {}
        if not taken:
            return
        try:
            # In one order, so that two gateways that write the same rows wait and do not deadlock.
            await self._write([(*what, *state, state[1]) for what, state in sorted(taken.items())])
        except (psycopg.Error, OSError) as error:
            self._pending = taken | self._pending
            if not self._is_complaining:
                log.warning("heartbeats cannot be written; tried again: %s", error)
            self._is_complaining = True
        else:
            self._is_complaining = False

    async def _write(self, rows: list[tuple[Any, ...]]) -> None:
        async with asyncio.timeout(_WRITE_S):
            link = await AsyncConnection.connect(
                self._database_url,
                connect_timeout=_CONNECT_S,
                prepare_threshold=None,  # A pooler may give each statement another server.
                application_name="keyvault-gateway-heartbeats",
            )
            async with link, link.cursor() as cursor:
                await cursor.executemany(_WRITE, rows)


def _report(body: bytes) -> Report:
    """Return what a body says. Raises Problem."""
    try:
        report = _DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise problems.bad_request(_RULE) from None
    if not 1 <= len(report.keys) <= KEYS_MOST:
        raise problems.bad_request(_RULE)
    return report
