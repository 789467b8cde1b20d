"""One count of failures for sign-in, step-up and the API, per user name and per address.

Every try of a person is charged before it is checked and refunded when it
succeeds, so that a burst of parallel guesses gets no more tries than a slow
one. Nothing but a complete sign-in clears a person's count.

A program is judged in the other order: its proof is checked, and only a wrong
one is charged. A client secret holds 256 random bits and a signature cannot be
guessed, so that the count has nothing to protect there. What it could do is
harm: whoever knows the name of an agent, or shares an address with it, would
stop it by being wrong often enough. The count makes those who are wrong wait,
and the ledger tells of them; the right proof always opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

from django.db import transaction
from django.utils.crypto import salted_hmac

from approvals.ports import Actor, Subject
from keyvault.accounts import names
from keyvault.accounts.devices import Lockout
from keyvault.audit import denials, ledger

FORGET_AFTER = timedelta(hours=1)
FIRST_LOCK = timedelta(minutes=1)
LONGEST_LOCK = timedelta(minutes=15)
LIMITS = {"person": 5, "address": 30, "program": 10, "programs": 100}
_TITLES = {
    "person": "One person",
    "address": "One address",
    "program": "One program at one address",
    "programs": "All programs at one address",
}
_DOOR = Actor("system", "sign-in", "Sign-in")


class Rejected(Exception):
    """A password or code is wrong; the try stays charged."""


class LockedOut(Exception):
    """Too many failures: nothing is checked before `until`."""

    def __init__(self, until: datetime) -> None:
        super().__init__(f"locked until {until.isoformat()}")
        self.until = until


@dataclass(frozen=True, slots=True)
class _Charge:
    """What one try cost, and which locks begin if it fails."""

    buckets: tuple[str, ...]
    begun: tuple[tuple[str, str, int, datetime], ...]


def person_bucket(username: str) -> str:
    """Return the key under which all spellings of a user name are counted."""
    return _bucket("person", names.normalise(username[:500]))


def address_bucket(ip: str) -> str:
    """Return the key under which an address is counted."""
    return _bucket("address", subscriber(ip))


def subscriber(ip: str) -> str:
    """Return the network of whoever has an address: of IPv6 a /64, of IPv4 the address alone.

    An IPv4 address in the form of IPv6 is the IPv4 address. What is no address is its own network.
    """
    try:
        found = ip_address(ip)
    except ValueError:
        return ip
    if isinstance(found, IPv6Address) and found.ipv4_mapped is None:
        return str(ip_network((found, 64), strict=False))
    return str(ip_network(getattr(found, "ipv4_mapped", None) or found))


def _bucket(scope: str, value: str) -> str:
    return salted_hmac(f"keyvault.lockout.{scope}", value, algorithm="sha256").hexdigest()


@contextmanager
def attempt(*, username: str, ip: str, now: datetime) -> Iterator[None]:
    """Charge one try for the block; a Rejected leaves it charged, anything else refunds it.

    Raises LockedOut before the block runs.
    """
    scopes = {person_bucket(username): "person", address_bucket(ip): "address"}
    charge = _charge(scopes, now=now)
    try:
        yield
    except Rejected:
        denials.count("password or code", actor=denials.NOBODY, example="", now=now)
        _announce(charge, now=now)
        raise
    except BaseException:
        _refund(charge)
        raise
    _refund(charge)


def refuse_program(*, name: str, ip: str, reason: str, whose: str, now: datetime) -> None:
    """Count one failed proof of a program, by the name it gave and its address.

    `reason` and `whose` are words of ours, never something that was sent. Raises
    LockedOut when there were too many before; the caller then says for how long.
    """
    where = subscriber(ip)
    scopes = {
        _bucket("program", f"{name[:500]}\n{where}"): "program",
        _bucket("programs", where): "programs",
    }
    denials.count(reason, actor=denials.NOBODY, example=whose, now=now)
    _announce(_charge(scopes, now=now), now=now)


def clear(*, username: str) -> None:
    """Forget a person's failures after a complete sign-in; the address keeps its own."""
    Lockout.objects.filter(bucket=person_bucket(username)).delete()


def _charge(scopes: dict[str, str], *, now: datetime) -> _Charge:
    # A refusal rolls back the rows made here, so that a locked address cannot fill the table.
    with transaction.atomic(durable=True):
        begun = []
        rows = _locked_rows(scopes, now=now)
        until = max((row.locked_until for row in rows if row.locked_until), default=now)
        if until > now:
            raise LockedOut(until)
        for row in rows:
            scope = scopes[row.bucket]
            _count(row, limit=LIMITS[scope], now=now)
            if row.locked_until:
                begun.append((row.bucket, scope, row.failures, row.locked_until))
    return _Charge(tuple(scopes), tuple(begun))


def _locked_rows(buckets: dict[str, str], *, now: datetime) -> list[Lockout]:
    # Made and locked in one order, so that two tries never wait for each other in a ring.
    wanted = sorted(buckets)
    Lockout.objects.bulk_create(
        [Lockout(bucket=bucket, last_failure_at=now) for bucket in wanted], ignore_conflicts=True
    )
    rows = Lockout.objects.select_for_update().filter(bucket__in=wanted)
    return list(rows.order_by("bucket"))


def _count(row: Lockout, *, limit: int, now: datetime) -> None:
    if now - row.last_failure_at > FORGET_AFTER:
        row.failures = 0
    row.failures += 1
    row.last_failure_at = now
    over = row.failures - limit
    row.locked_until = None if over < 0 else now + min(FIRST_LOCK * 2 ** min(over, 8), LONGEST_LOCK)
    row.save(update_fields=["failures", "last_failure_at", "locked_until"])


def _refund(charge: _Charge) -> None:
    begun = {bucket: until for bucket, _, _, until in charge.begun}
    with transaction.atomic(durable=True):
        rows = Lockout.objects.select_for_update().filter(bucket__in=charge.buckets)
        for row in rows.order_by("bucket"):
            row.failures = max(row.failures - 1, 0)
            if row.locked_until == begun.get(row.bucket):
                row.locked_until = None
            row.save(update_fields=["failures", "locked_until"])


def _announce(charge: _Charge, *, now: datetime) -> None:
    """Write the lock, not each failure, so that guessing cannot flood the ledger."""
    if not charge.begun:
        return
    with transaction.atomic(durable=True):
        for bucket, scope, failures, until in charge.begun:
            ledger.record(
                "lockout.started",
                actor=_DOOR,
                subject=Subject("lockout", bucket[:16], _TITLES[scope]),
                now=now,
                fields={"scope": scope, "failures": failures, "until": until.isoformat()},
                outcome="refused",
            )
