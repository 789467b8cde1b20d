"""Keep the cache true to the database, and say how far it is.

Woken by a notification, or five times a second, it takes one snapshot, reads
again what changed since the last one, applies it and confirms the snapshot in
its own row of `keyvault_gatewayinstance`. The gateway answers only while the
last confirmation is young (`clock.Lease`), so that a change is effective
everywhere once each gateway has confirmed it or has fallen silent.

Nobody waits for a gateway whose row is missing or old. The first confirmation
after a start or a gap therefore only announces it, and answers begin with the
one after that (docs/decisions/0008-right-changes.md gives the argument).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection

from keyvault.gateway import rows
from keyvault.gateway.cache import Cache, Subject
from keyvault.gateway.clock import LEASE_S, Clock, Lease, ticks
from keyvault.gateway.settings import Settings
from keyvault.launcher import installation

log = logging.getLogger(__name__)

# Kept by `keyvault.invalidation.services` for an hour; well before that, start anew.
_TOO_OLD = timedelta(minutes=50)
_EVERY_S = 0.2
_ROUND_S = 5.0
_LOAD_S = 300.0
_AGAIN_S = 0.2
_TIDY_EVERY = 300

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ"
_LOOK = "SELECT pg_current_snapshot()::text, clock_timestamp(), pg_postmaster_start_time()"
# The bound on xact lets the index skip what every snapshot since then has seen.
_NOTED = """
SELECT DISTINCT kind, subject_id FROM keyvault_rightchange
WHERE xact >= pg_snapshot_xmin(%(last)s::pg_snapshot)::text::bigint
    AND NOT pg_visible_in_snapshot(xact::text::xid8, %(last)s::pg_snapshot)
"""
_CONFIRM = """
INSERT INTO keyvault_gatewayinstance
    (id, name, address, audit_mode, version, started_at, seen_at, applied, stale_max_s)
VALUES (%(id)s, %(name)s, %(address)s, %(mode)s, %(version)s, %(seen)s, %(seen)s, %(applied)s, %(stale)s)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, applied = excluded.applied
"""
_END = "UPDATE keyvault_gatewayinstance SET ended_at = clock_timestamp() WHERE id = %s"
_OWN = "SELECT applied FROM keyvault_gatewayinstance WHERE id = %s"
_KEKS = "SELECT id, state, check_value FROM keyvault_kek WHERE state <> 'retired'"

_VERSION = installation.version()

Fits = Callable[[list[tuple[Any, ...]]], bool]
# Hears which subjects were read again, None for all of them, once answers may be given by it.
Changed = Callable[[set[Subject] | None], None]


class Follower:
    """One connection of its own to PostgreSQL, and the cache that it keeps true."""

    def __init__(
        self, settings: Settings, clock: Clock, lease: Lease, *, fits: Fits, changed: Changed
    ) -> None:
        """Prepare. `fits` judges the keks of the database, `changed` hears what was read again."""
        self.cache = Cache()
        self._settings, self._clock, self._lease = settings, clock, lease
        self._fits, self._changed = fits, changed
        self._untold: set[Subject] | None = set()
        self._id, self._name = uuid4(), f"{socket.gethostname()}:{os.getpid()}"
        self._applied: str | None = None
        self._applied_at: datetime | None = None
        self._server: datetime | None = None
        self._is_proved = False
        self._announced_until = 0.0
        self._rounds = 0
        self._failures = 0

    async def run(self) -> None:
        """Follow for ever. Whatever PostgreSQL does, it tries again and never answers wrongly."""
        while True:
            try:
                link = await self._connect()
                try:
                    await self._follow(link)
                finally:
                    await link.close()
            except (psycopg.Error, OSError, TimeoutError) as error:
                self._lost(error)
                await asyncio.sleep(_AGAIN_S)

    async def end(self) -> None:
        """Tell the console that this gateway has stopped, so that nobody waits for it."""
        if self._applied is None:
            return
        try:
            async with asyncio.timeout(1):
                link = await self._connect()
                await link.execute(_END, [self._id])
                await link.close()
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("the end of this gateway was not noted: %s", error)

    async def _connect(self) -> rows.Link:
        link = await AsyncConnection.connect(
            self._settings.listen,
            autocommit=True,
            connect_timeout=3,
            application_name="keyvault-gateway-rights",
        )
        await link.execute("SET TIME ZONE 'UTC'")
        if not self._settings.stale_max_s:
            # The connection breaks with a PostgreSQL that crashes, and the right to answer with
            # it, so the confirmation need not outlive it. Old answers may go on for longer than
            # the connection, and whoever gives them must be known for as long.
            await link.execute("SET synchronous_commit = off")
        return link

    async def _follow(self, link: rows.Link) -> None:
        async with asyncio.timeout(_ROUND_S):
            await link.execute("LISTEN keyvault_rights")
            await self._compare(link)
        while True:
            limit_s = _ROUND_S if self._applied else _LOAD_S
            async with asyncio.timeout(limit_s):
                is_due = await self._round(link)
            if not is_due:
                async for _ in link.notifies(timeout=_EVERY_S, stop_after=1):
                    pass

    async def _compare(self, link: rows.Link) -> None:
        """Load everything anew unless the last confirmation is still there.

        A PostgreSQL that crashed may give numbers of transactions that it lost
        a second time. If the confirmation was not lost, nothing before it was:
        its snapshot means what it meant.
        """
        own = await (await link.execute(_OWN, [self._id])).fetchone()
        if own is None or own[0] != self._applied:
            self._applied = self._applied_at = None

    async def _round(self, link: rows.Link) -> bool:
        """Look, apply, confirm; say whether the next look is due at once."""
        asked = ticks()
        async with link.pipeline():
            await link.execute(_BEGIN)
            look = await link.execute(_LOOK)
            noted = await link.execute(_NOTED, {"last": self._applied}) if self._applied else None
        snapshot, told, server = await _one(look)
        is_anew = self._must_load(told, server)
        if not self._is_proved:
            keks = await link.execute(_KEKS)
            self._is_proved = self._fits(await keks.fetchall())
        if is_anew or noted is None:
            await self._load(link)
        else:
            subjects = [(str(kind), subject) for kind, subject in await noted.fetchall()]
            await self._apply(link, subjects)
        async with link.pipeline():
            await link.execute(_CONFIRM, self._confirmation(snapshot, told))
            await link.execute("COMMIT")
        self._applied, self._applied_at, self._server = snapshot, told, server
        self._clock.set(told, asked=asked)
        is_renewed = self._renewed(asked)
        self._over()
        return is_anew or not is_renewed

    def _renewed(self, asked: float) -> bool:
        """Take the right to answer for a look that is committed by now; False: it announced only.

        A change that this look did not see was waited for only if the row of
        the look before it counted as live until this commit. Measured after
        the commit and from before its question, both on the safe side.
        """
        is_waited_for = ticks() < self._announced_until
        if is_waited_for:
            self._lease.renew(asked)
            self._tell()
        self._announced_until = asked + LEASE_S + self._settings.stale_max_s
        return is_waited_for

    def _must_load(self, told: datetime, server: datetime) -> bool:
        """Say whether changes alone would not do.

        After a restart or a failover the numbers of transactions may go other
        ways than those that were seen here.
        """
        if self._applied_at is None or self._server != server:
            return True
        return told - self._applied_at > _TOO_OLD

    async def _load(self, link: rows.Link) -> None:
        if not self._lease.holds():
            self.cache = Cache()  # Nobody is answered from it: its memory is given back first.
        self.cache = await rows.everything(link)
        self._untold = None
        # What was loaded stays: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        log.info("loaded %d keys, %d agents", len(self.cache.keys), len(self.cache.agents))

    async def _apply(self, link: rows.Link, subjects: list[tuple[str, UUID]]) -> None:
        if subjects:
            changes = await rows.changed(link, subjects)
            self.cache.apply(changes)
            if self._untold is not None:
                self._untold |= changes.subjects()
        self._rounds += 1
        if self._rounds % _TIDY_EVERY == 0:
            self.cache.forget_expired(self._clock.moment())

    def _tell(self) -> None:
        """Say what was read again since answers were last given."""
        if self._untold != set():
            self._changed(self._untold)
            self._untold = set()

    def _confirmation(self, snapshot: str, told: datetime) -> dict[str, object]:
        return {
            "id": self._id,
            "name": self._name,
            "address": self._settings.address,
            "mode": self._settings.mode.value,
            "version": _VERSION,
            "seen": told,
            "applied": snapshot,
            "stale": self._settings.stale_max_s,
        }

    def _lost(self, error: Exception) -> None:
        # A PostgreSQL that comes back may have forgotten the row, so it is announced anew.
        self._announced_until = 0.0
        if self._failures == 0:
            self._lease.cut()
            log.warning("PostgreSQL is away, no reads until it is back: %r", error)
        self._failures += 1

    def _over(self) -> None:
        if self._failures:
            log.info("PostgreSQL is back after %d attempts", self._failures)
        self._failures = 0


async def _one(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = await cursor.fetchone()
    if row is None:
        raise psycopg.DataError("PostgreSQL answered nothing")
    return row
