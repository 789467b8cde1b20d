"""Reach a provider or a destination: unseal the admin credential, go through the guard, within a deadline.

A `Reach` is opened for one piece of work and zeroes the admin credential when
it ends. Every call gets a context of its own, so that a slow call does not eat
the time of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction

from approvals.ports import Actor, NeedsPerson, Subject, Unfinished
from keyvault import outbound
from keyvault.audit import ledger
from keyvault.connections import kinds, turns
from keyvault.connections.models import Connection, Renewal, RenewalState
from keyvault.crypto.secret import Secret
from keyvault.destinations import registry as destinations
from keyvault.destinations.base import Destination
from keyvault.plugins import context
from keyvault.plugins.loading import Registered
from keyvault.plugins.ports import Context
from keyvault.providers import registry as providers
from keyvault.providers.base import Provider, RenewsAdmin, Verdict
from keyvault.vault import sealing
from keyvault.vault.sealing import Place

# Well below the lease of a job, so that no call outlives its claim.
CALL_S = 20.0
NEITHER = (
    "The provider takes neither the old nor the new admin credential. Set one there by hand, and "
    "ask for a change of the Connection with it."
)
_P = TypeVar("_P")


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
    with turns.turn(connection.pk), turns.together(connection.pk):
        admin = open_admin(connection, actor=actor, now=now, purpose=purpose)
        try:
            yield Reach(connection, registered.plugin, registered.label, admin)
        finally:
            zero(admin)


def open_admin(
    connection: Connection, *, actor: Actor, now: datetime, purpose: str
) -> dict[str, Secret]:
    """Return the admin credential that is in force now; empty where there is none.

    While the call of a renewal is not settled there are two, and the provider is asked
    which of them it takes. Raises Unfinished, and NeedsPerson where it takes neither.
    """
    number, coming = in_force(connection)
    opened = partial(open_number, connection, actor=actor, now=now, purpose=purpose)
    if coming is None:
        return opened(number)
    verdicts = []
    for material in map(opened, (coming, number)):
        verdicts.append(tried(connection, material))
        if verdicts[-1] is Verdict.VALID:
            return material
        zero(material)
    if Verdict.UNKNOWN in verdicts:
        raise Unfinished("unclear", "The provider does not say which admin credential it takes.")
    raise NeedsPerson("neither", NEITHER)


def in_force(connection: Connection) -> tuple[int, int | None]:
    """Return the number of the credential in place, and of one that may have become valid.

    A credential never goes with settings other than those it was sealed for: where both have
    changed since the caller read them, they are to be read again. Raises Unfinished.
    """
    fresh = Connection.objects.values_list("revision", "credential_number")
    revision, number = fresh.get(pk=connection.pk)
    if revision != connection.revision and number != connection.credential_number:
        raise Unfinished("changed", "This Connection has changed meanwhile; it is read again.")
    coming = Renewal.objects.filter(
        connection_id=connection.pk, state=RenewalState.CALLING, calls__gt=0, number=number + 1
    )
    return number, coming.values_list("number", flat=True).first()


def tried(connection: Connection, material: Mapping[str, Secret]) -> Verdict:
    """Try one admin credential and return what that showed; what nobody has does not work."""
    plugin = providers.registered(connection.provider).plugin
    if not isinstance(plugin, RenewsAdmin):
        return Verdict.UNKNOWN
    if not material:
        return Verdict.INVALID
    return plugin.validate_admin(Reach(connection, plugin, "", material).call()).verdict


def open_number(
    connection: Connection, number: int, *, actor: Actor, now: datetime, purpose: str
) -> dict[str, Secret]:
    """Record the opening, commit, and return the credential of a number; empty where none lies."""
    place, subject = place_of(connection.pk, number), subject_of(connection)
    with transaction.atomic(durable=True):
        names = sealing.fields(place)
        if not names:
            return {}
        ledger.record(
            "secret.opened",
            actor=actor,
            subject=subject,
            now=now,
            fields={"number": number, "fields": names, "purpose": purpose},
        )
    return sealing.take(place, actor=actor, subject=subject, now=now, purpose=purpose)


def zero(material: Mapping[str, Secret]) -> None:
    """Forget opened values."""
    for secret in material.values():
        secret.zero()


def credential_place(connection: Connection) -> Place:
    """Return where the admin credential lies that was in place when the row was read."""
    return place_of(connection.pk, connection.credential_number)


def place_of(connection_id: UUID, number: int) -> Place:
    """Return where an admin credential lies; each new one has a number of its own."""
    return Place("connection", connection_id, number)


def subject_of(connection: Connection) -> Subject:
    """Return a Connection as the ledger names it."""
    return Subject("connection", str(connection.pk), connection.slug)
