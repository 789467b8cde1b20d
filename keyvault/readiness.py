"""Can this process do its work? One answer for load balancers, metrics and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from urllib.parse import parse_qs, urlsplit

import redis
from django.conf import settings
from django.db import DatabaseError, connection

from approvals import queue
from keyvault.actions import installation
from keyvault.audit import sequencer
from keyvault.vault import seals

LATE = timedelta(seconds=60)
SKEW = timedelta(seconds=5)
_PING_S = 2.0


class Status(StrEnum):
    """READY and DEGRADED serve; UNREADY and SEALED must be taken out of service."""

    READY = "ready"
    DEGRADED = "degraded"
    UNREADY = "unready"
    SEALED = "sealed"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What was found; `None` for an age means that nothing waits.

    Ages are in seconds. A silent queue server or a late clock only degrades:
    the console takes requests and decisions all the same.
    """

    has_database: bool
    has_queue_server: bool
    is_sealed: bool
    seal: str = ""
    unsequenced_s: float | None = None
    oldest_due_s: float | None = None
    held_jobs: int = 0

    @property
    def status(self) -> Status:
        """The verdict."""
        if not self.has_database:
            return Status.UNREADY
        if self.is_sealed:
            return Status.SEALED
        is_late = max(self.unsequenced_s or 0, self.oldest_due_s or 0) > LATE.total_seconds()
        return Status.DEGRADED if is_late or not self.has_queue_server else Status.READY


def look(*, now: datetime) -> Readiness:
    """Look at database, seal, queue server, sequencer and the oldest due job. Never raises."""
    has_queue_server = ping_queue_server(settings.BROKER_URL)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        seal = seals.seal_state()
        return Readiness(
            has_database=True,
            has_queue_server=has_queue_server,
            is_sealed=seal.is_sealed,
            seal=seal.sentence,
            unsequenced_s=_age_s(_oldest_unsequenced_at(), now),
            oldest_due_s=_age_s(queue.oldest_due_at(), now),
            held_jobs=len(queue.held()),
        )
    except DatabaseError:
        # A broken connection is thrown away, so that the next look may succeed.
        connection.close()
        return Readiness(has_database=False, has_queue_server=has_queue_server, is_sealed=False)


def ping_queue_server(url: str) -> bool:
    """Say whether the queue server answers within two seconds."""
    try:
        with redis.Redis.from_url(
            _redis_url(url), socket_timeout=_PING_S, socket_connect_timeout=_PING_S
        ) as server:
            return bool(server.ping())
    except (redis.RedisError, OSError, ValueError):
        return False


def _redis_url(url: str) -> str:
    """Spell Celery's address of a unix socket as redis-py reads it."""
    parts = urlsplit(url)
    if parts.scheme != "redis+socket":
        return url
    database = parse_qs(parts.query).get("virtual_host", ["0"])[0]
    return f"unix://{parts.netloc}{parts.path}?db={database}"


def _oldest_unsequenced_at() -> datetime | None:
    return sequencer.waiting().order_by("at").values_list("at", flat=True).first()


def _age_s(since: datetime | None, now: datetime) -> float | None:
    return max(0.0, (now - since).total_seconds()) if since else None


class Light(StrEnum):
    """OK lets set-up go on; WAIT is not known yet; RED says the mend."""

    OK = "ok"
    WAIT = "wait"
    RED = "red"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the self-check: what was looked at, how it is, and the fact or the mend."""

    title: str
    light: Light
    sentence: str


def checks(*, now: datetime) -> list[Check]:
    """Return what must hold before anybody is enrolled. Never raises."""
    found = look(now=now)
    if not found.has_database:
        mend = "It does not answer. Start PostgreSQL, or mend DATABASE_URL."
        return [Check("Database", Light.RED, mend)]
    return [
        Check("Database", Light.OK, "It answers."),
        _queue_server(found),
        _worker(found, now),
        _kek(found),
        _clock(now),
    ]


def _queue_server(found: Readiness) -> Check:
    if found.has_queue_server:
        return Check("Queue server", Light.OK, "It answers.")
    mend = "It does not answer. Start Valkey or Redis, or mend KEYVAULT_BROKER_URL."
    return Check("Queue server", Light.RED, mend)


def _worker(found: Readiness, now: datetime) -> Check:
    """Look whether the probe was taken, and whether anything else waits too long."""
    title, late_s = "Clock and worker", LATE.total_seconds()
    newest = queue.newest(kind=installation.PROBE, subject_id=installation.HERE)
    if newest is not None and newest[0] == "done" and (found.oldest_due_s or 0) <= late_s:
        return Check(title, Light.OK, "A job that was given out came back.")
    waited_s = max(found.oldest_due_s or 0, _age_s(newest[1], now) or 0 if newest else 0)
    if waited_s <= late_s:
        return Check(title, Light.WAIT, "A job was given out. It comes back within seconds.")
    mend = f"A job waits for {waited_s:.0f} s. Start `manage.py clock` and a Celery worker."
    return Check(title, Light.RED, mend)


def _kek(found: Readiness) -> Check:
    if found.is_sealed:
        return Check("Key-encryption key", Light.RED, found.seal)
    return Check("Key-encryption key", Light.OK, "It opens the vault.")


def _clock(now: datetime) -> Check:
    """Compare with the database's clock: codes of an authenticator app live by this one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        there = datetime.fromtimestamp(float(cursor.fetchone()[0]), tz=UTC)
    apart_s = abs((there - now).total_seconds())
    if apart_s <= SKEW.total_seconds():
        return Check("Clock", Light.OK, f"{apart_s:.1f} s from the database's.")
    mend = f"{apart_s:.0f} s from the database's. Run NTP on both hosts."
    return Check("Clock", Light.RED, mend)
