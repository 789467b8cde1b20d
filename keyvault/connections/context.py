"""Reach a provider or a destination: unseal the admin credential, go through the guard, within a deadline.

A `Reach` is opened for one piece of work and zeroes the admin credential when
it ends. Every call gets a context of its own, so that a slow call does not eat
the time of the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction

from approvals.ports import Actor, Subject, Unfinished
from keyvault import outbound
from keyvault.audit import ledger
from keyvault.connections import kinds
from keyvault.connections.models import Connection
from keyvault.crypto.secret import Secret
from keyvault.destinations import registry as destinations
from keyvault.destinations.base import Destination
from keyvault.plugins import context
from keyvault.plugins.loading import Registered
from keyvault.plugins.ports import Context
from keyvault.providers import registry as providers
from keyvault.providers.base import Provider
from keyvault.vault import sealing
from keyvault.vault.sealing import Place

# Well below the lease of a job, so that no call outlives its claim.
CALL_S = 20.0
# One slow provider must not take every thread of a worker (ROTATION.md rule 11).
AT_ONCE = 4
_WAIT_S = 10.0

_P = TypeVar("_P")

_gates: dict[UUID, threading.BoundedSemaphore] = {}
_gates_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Reach(Generic[_P]):
    """One Connection within reach: its plug-in, and contexts for calls to it."""

    connection: Connection
    plugin: _P
    label: str
    admin: Mapping[str, Secret] = field(repr=False)

    def call(
        self, options: Mapping[str, Any] | None = None, *, timeout_s: float = CALL_S
    ) -> Context:
        """Return the context of one call, which ends `timeout_s` seconds from now."""
        return context.call(
            guard_of(self.connection.allowed_hosts),
            timeout_s=timeout_s,
            config=self.connection.config,
            options=options or {},
            admin=self.admin,
        )


def guard_of(allowed_hosts: list[str]) -> outbound.Guard:
    """Return the way out that an approved allow-list leaves. Raises ValueError on a bad entry."""
    return outbound.Guard(
        allowed=tuple(outbound.Allowance.parse(text) for text in allowed_hosts),
        sockets=frozenset(settings.EGRESS_SOCKETS),
    )


def reach(
    connection: Connection, *, actor: Actor, now: datetime, purpose: str
) -> AbstractContextManager[Reach[Provider]]:
    """Open the admin credential for the work in the block; the ledger knows before it is open.

    Outermost: commits the event in a transaction of its own. Entering raises
    Unfinished when the Connection has too much to do at once, UnknownKind,
    sealing.Unreadable, keyring.NoKey.
    """
    plugin = partial(providers.registered, connection.provider)
    return _reach(connection, plugin, actor=actor, now=now, purpose=purpose)


def reach_destination(
    connection: Connection, *, actor: Actor, now: datetime, purpose: str
) -> AbstractContextManager[Reach[Destination]]:
    """Open the admin credential of a destination, as `reach` does a provider's."""
    plugin = partial(destinations.registered, connection.provider)
    return _reach(connection, plugin, actor=actor, now=now, purpose=purpose)


def reach_any(
    connection: Connection, *, actor: Actor, now: datetime, purpose: str
) -> AbstractContextManager[Reach[Provider] | Reach[Destination]]:
    """Open the admin credential of whatever a Connection leads to, as `reach` does."""
    opened = reach_destination if kinds.is_destination(connection.provider) else reach
    return opened(connection, actor=actor, now=now, purpose=purpose)


@contextmanager
def _reach(
    connection: Connection,
    find: Callable[[], Registered[_P]],
    *,
    actor: Actor,
    now: datetime,
    purpose: str,
) -> Iterator[Reach[_P]]:
    registered = find()
    with _turn(connection.pk):
        admin = open_admin(connection, actor=actor, now=now, purpose=purpose)
        try:
            yield Reach(connection, registered.plugin, registered.label, admin)
        finally:
            for secret in admin.values():
                secret.zero()


def open_admin(
    connection: Connection, *, actor: Actor, now: datetime, purpose: str
) -> dict[str, Secret]:
    """Record the opening, commit, and return the admin credential; empty where there is none."""
    place = credential_place(connection)
    with transaction.atomic(durable=True):
        names = sealing.fields(place)
        if not names:
            return {}
        ledger.record(
            "secret.opened",
            actor=actor,
            subject=subject_of(connection),
            now=now,
            fields={"number": place.number, "fields": names, "purpose": purpose},
        )
    return sealing.take(
        place, actor=actor, subject=subject_of(connection), now=now, purpose=purpose
    )


def credential_place(connection: Connection) -> Place:
    """Return where the admin credential lies; each new credential has a number of its own."""
    return Place("connection", connection.pk, connection.credential_number)


def subject_of(connection: Connection) -> Subject:
    """Return a Connection as the ledger names it."""
    return Subject("connection", str(connection.pk), connection.slug)


@contextmanager
def _turn(connection_id: UUID) -> Iterator[None]:
    with _gates_lock:
        gate = _gates.setdefault(connection_id, threading.BoundedSemaphore(AT_ONCE))
    if not gate.acquire(timeout=_WAIT_S):
        raise Unfinished("busy", "This Connection has too many calls in flight; it waits its turn.")
    try:
        yield
    finally:
        gate.release()
