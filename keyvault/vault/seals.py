"""Is this process's key the one that sealed this database? If not, it starts sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.apps import apps
from django.db import connection, transaction
from django.utils import timezone

from approvals.ports import Actor, Subject
from keyvault.audit import ledger
from keyvault.crypto import digest, keyring
from keyvault.crypto.keyring import Keyring, NoKey
from keyvault.vault import budget
from keyvault.vault.models import Kek, KekState, Sealed

# Every column that holds envelopes: a re-wrap visits these, and a first key is
# registered only while all of them are empty.
COLUMNS = (("keyvault.Sealed", "blob"), ("keyvault.TOTPDevice", "sealed_seed"))
_SYSTEM = Actor("system", "keyvault", "keyvault")


@dataclass(frozen=True, slots=True)
class SealState:
    """Whether secrets can be read and written, and if not, the sentence that says why."""

    is_sealed: bool
    sentence: str
    kek_id: str = ""


def seal_state() -> SealState:
    """Say whether this process can open and seal. Never raises for a missing key."""
    try:
        ring = keyring.active()
        digest.keyed("seal state", b"")
    except (NoKey, digest.NoIndexKey) as missing:
        return SealState(is_sealed=True, sentence=str(missing))
    return SealState(is_sealed=False, sentence="The vault is open.", kek_id=ring.active_id.hex())


def guard(ring: Keyring) -> bool:
    """Compare a keyring with the database before its first use (keyring.install).

    Returns True once it has been compared with committed rows. Raises NoKey
    when the keys do not fit: a new key is never put over existing data.
    """
    keks = {kek.id: kek for kek in Kek.objects.exclude(state=KekState.RETIRED)}
    if not keks:
        was_inside = connection.in_atomic_block
        _register_first(ring, now=timezone.now())  # noqa: TID251 - called by no service.
        keks = {kek.id: kek for kek in Kek.objects.exclude(state=KekState.RETIRED)}
        _compare(ring, keks)
        # A surrounding transaction may still roll the registration back.
        return not was_inside
    _compare(ring, keks)
    return True


def _compare(ring: Keyring, keks: dict[str, Kek]) -> None:
    active = keks.get(ring.active_id.hex())
    if active is None or active.state != KekState.ACTIVE:
        raise NoKey(
            "The key-encryption key here is not the one that sealed this database. "
            "Restore the key that KEYVAULT_KEK names from its copy."
        )
    for kek in keks.values():
        check = ring.check_of(bytes.fromhex(kek.id))
        if check is None:
            left = Sealed.objects.filter(kek_id=kek.id).count()
            raise NoKey(f"An older key is missing that {left} sealed values still need.")
        if check.hex() != kek.check_value:
            raise NoKey("The check value of a key-encryption key does not match the database.")


def _register_first(ring: Keyring, *, now: datetime) -> None:
    for label, _ in COLUMNS:
        if apps.get_model(label)._default_manager.exists():  # noqa: SLF001 - documented by Django.
            raise NoKey(
                "The database holds sealed values but knows no key-encryption key. "
                "Restore the database from its backup."
            )
    with transaction.atomic():
        first = Kek(
            id=ring.active_id.hex(),
            check_value=ring.active_check.hex(),
            state=KekState.ACTIVE,
            first_block=budget.next_block(),
            created_at=now,
        )
        # Of two processes with different keys one wins; the other finds itself sealed.
        Kek.objects.bulk_create([first], ignore_conflicts=True)
        ledger.record(
            "kek.registered",
            actor=_SYSTEM,
            subject=Subject("kek", first.id, first.id[:8]),
            now=now,
            fields={"kek_id": first.id},
        )
