"""Mint credentials for one run at a provider of short-lived ones, and end them there.

Nothing is kept as a version. What was minted lies sealed under its lease until it
has ended, only so that it can be ended: some providers end a credential for nobody
but its holder. It is never handed out a second time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from approvals.ports import Actor, NeedsPerson, Subject, Unfinished
from keyvault.audit import ledger
from keyvault.connections import places
from keyvault.connections.calls import Errand, Work, spoken, told
from keyvault.connections.context import Reach, guard_of, reach
from keyvault.connections.models import Connection
from keyvault.inventory.models import Key
from keyvault.plugins import context
from keyvault.providers import base, registry
from keyvault.providers.base import Issued, Mints, Provider
from keyvault.vault import sealing
from keyvault.vault.sealing import Place

JSON = Any
KIND = "lease"
_NUMBER = 1  # One credential for each lease.


class NotMinted(Exception):
    """No credential came of it. `is_lost`: the provider may have made one all the same.

    `needs_person`: trying again does not help before somebody has mended something.
    """

    def __init__(
        self, code: str, sentence: str, *, is_lost: bool = False, needs_person: bool = False
    ) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence
        self.is_lost, self.needs_person = is_lost, needs_person


@dataclass(frozen=True, slots=True)
class Minted:
    """A credential for one run, and the plug-in that minted it."""

    issued: Issued = field(repr=False)
    provider: str


def mints(connection: Connection) -> bool:
    """Say whether what is issued at a Connection is for one run each, and never kept."""
    try:
        return isinstance(registry.provider(connection.provider), Mints)
    except registry.UnknownKind:
        return False


def longest_s(key: Key) -> int:
    """Return for how many seconds one run may hold a credential of a key, by its settings.

    Raises Misconfigured, registry.UnknownKind.
    """
    return _minter(key.connection).longest_s(_without_credential(key))


def life_s(connection: Connection) -> int:
    """Return after how many seconds whatever was minted there has ended by itself.

    Raises registry.UnknownKind.
    """
    return _minter(connection).life_s


def prepare(errand: Errand) -> None:
    """See by reading only that credentials of a key can be minted. Raises Unfinished, NeedsPerson."""
    key, run = errand.key, errand.run
    with told(), reach(key.connection, actor=errand.actor, now=run.now, purpose="create") as found:
        work = Work(key, errand.request_id, run, errand.actor, found)
        with spoken():
            work.provider.prepare(work.call(), run.subject_id.hex, 1, None)


def mint(
    *, key: Key, subject: str, scopes: Sequence[str], ttl_s: int, actor: Actor, now: datetime
) -> Minted:
    """Mint one credential; the caller has committed that it tries. Outside of a transaction.

    subject: names the run at the provider, where that can be told. Raises NotMinted.
    """
    try:
        with told(), reach(key.connection, actor=actor, now=now, purpose="mint") as found:
            return _mint(found, key, subject=subject, scopes=scopes, ttl_s=ttl_s)
    except Unfinished as stop:
        raise NotMinted(
            stop.code, stop.sentence, needs_person=isinstance(stop, NeedsPerson)
        ) from None


def keep(lease_id: UUID, issued: Issued, *, now: datetime) -> str:
    """Seal what ends a credential, in the caller's transaction; return its keyed fingerprint."""
    sealing.put(_place(lease_id), issued.material, now=now)
    return sealing.fingerprint(issued.material)


def forget(lease_id: UUID) -> None:
    """Delete what was sealed under a lease, in the caller's transaction."""
    sealing.remove(_place(lease_id))


def end(
    *,
    lease_id: UUID,
    key: Key,
    server: Mapping[str, str],
    remote: Mapping[str, JSON],
    actor: Actor,
    now: datetime,
) -> bool:
    """End a credential at the provider that minted it; False where nothing is left to end it by.

    One that has ended counts as ended, so that a repeated call does no harm. Outside of
    a transaction. Raises Unfinished, NeedsPerson.
    """
    if server != places.leads_to(key.connection):
        raise NeedsPerson(
            "server_changed",
            f"It was minted at {places.named(server)}, and {key.connection.title} leads elsewhere "
            "now. It ends by itself there.",
        )
    with told():
        material = _open(lease_id, key, actor=actor, now=now)
        if not material:
            return False
        with reach(key.connection, actor=actor, now=now, purpose="end a lease") as found, spoken():
            minter = _as_minter(found.plugin)
            minter.end(found.call(key.options), Issued.from_json(remote, material))
    return True


def _mint(
    found: Reach[Provider], key: Key, *, subject: str, scopes: Sequence[str], ttl_s: int
) -> Minted:
    try:
        minter = _as_minter(found.plugin)
        issued = minter.mint(found.call(key.options), subject, scopes, ttl_s)
    except base.Ambiguous as error:
        raise NotMinted(error.code, error.sentence, is_lost=True) from None
    except base.Transient as error:
        raise NotMinted(error.code, error.sentence) from None
    except base.ProviderError as error:
        raise NotMinted(error.code, error.sentence, needs_person=True) from None
    except Exception as error:  # noqa: BLE001 - see the next line.
        # A plug-in that breaks the protocol may have changed something: treat it as unanswered.
        sentence = f"The provider failed ({type(error).__name__})."
        raise NotMinted("fault", sentence, is_lost=True) from None
    return Minted(issued, found.label)


def _open(lease_id: UUID, key: Key, *, actor: Actor, now: datetime) -> dict[str, Any]:
    """Record the opening, commit, and return what was sealed; nothing once it has been deleted."""
    place, subject = _place(lease_id), Subject(KIND, str(lease_id), f"a lease of {key.name}")
    purpose = "end a lease"
    with transaction.atomic(durable=True):
        names = sealing.fields(place)
        if not names:
            return {}
        ledger.record(
            "secret.opened",
            actor=actor,
            subject=subject,
            now=now,
            fields={"number": place.number, "fields": names, "purpose": purpose},
        )
    return dict(sealing.take(place, actor=actor, subject=subject, now=now, purpose=purpose))


def _place(lease_id: UUID) -> Place:
    return Place(KIND, lease_id, _NUMBER)


def _minter(connection: Connection) -> Mints:
    return _as_minter(registry.provider(connection.provider))


def _as_minter(provider: Provider) -> Mints:
    if not isinstance(provider, Mints):
        raise base.Unsupported("This provider mints nothing for one run.")
    return provider


def _without_credential(key: Key) -> context.Call:
    return context.call(
        guard_of(key.connection.allowed_hosts),
        timeout_s=0,
        config=key.connection.config,
        options=key.options,
        admin={},
    )
