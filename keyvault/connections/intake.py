"""Credentials that a person makes or ends by hand: take the value in, confirm that it is over.

The request has been approved and its job is held, or about to be. What a
person does here and the job's taking up are written in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from approvals import queue
from approvals.ports import Actor, NotVisible
from keyvault.accounts import selectors as accounts
from keyvault.accounts.models import User
from keyvault.audit import ledger
from keyvault.connections import attempts, places, selectors
from keyvault.connections.context import reach
from keyvault.connections.models import Act, Attempt
from keyvault.crypto.secret import Secret
from keyvault.inventory.models import Key
from keyvault.providers import base, registry
from keyvault.providers.base import Adopts, Field, Instructs
from keyvault.vault import services as vault
from keyvault.vault.services import Credential
from keyvault.vault.steps import WrongState


class NotTaken(ValueError):
    """The value cannot be taken. The message says the mend and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a person has to do by hand for one key: `act` is create or revoke."""

    key: Key
    act: str
    steps: Sequence[str]
    fields: Sequence[Field]
    tag: str


def task(*, key: Key, person: User) -> Task:
    """Return what this person has to do for a key. Raises NotVisible when there is nothing."""
    attempt = _attempt(key, person)
    provider = registry.provider(attempt.connection.provider)
    fields: Sequence[Field] = getattr(provider, "value_schema", provider.material_schema)
    is_create = attempt.act == Act.CREATE
    return Task(key, attempt.act, _steps(attempt), fields if is_create else (), attempt.tag)


def intake(*, key: Key, person: User, typed: Mapping[str, str], now: datetime) -> None:
    """Seal the value that a person pasted, and let the held job go on.

    Raises NotTaken, NotVisible, keyring.NoKey.
    """
    attempt = _attempt(key, person, act=Act.CREATE)
    actor = accounts.actor(person)
    material = {name: Secret.of(text) for name, text in typed.items() if text}
    issued = _adopt(attempt, material, actor, now)
    try:
        with transaction.atomic(durable=True):
            _go_on(attempt, person, now)
            vault.store(
                version_id=attempt.version_id,
                credential=Credential(
                    remote_id=issued.remote_id,
                    remote=issued.to_json(),
                    public=issued.public,
                    material=issued.material,
                    expires_at=issued.expires_at,
                ),
                provider=registry.registered(attempt.connection.provider).label,
                now=now,
                actor=actor,
            )
            _record(attempt, sorted(issued.material), actor, now)
    except WrongState as error:
        raise NotTaken("The value was taken already.") from error


def confirm_revoked(*, key: Key, person: User, now: datetime) -> None:
    """Note that a person has ended the credential by hand, and let the held job go on.

    Raises NotVisible.
    """
    attempt = _attempt(key, person, act=Act.REVOKE)
    actor = accounts.actor(person)
    with transaction.atomic(durable=True):
        _go_on(attempt, person, now)
        fresh = Attempt.objects.filter(pk=attempt.pk, confirmed_by="")
        if fresh.update(confirmed_by=actor.label):
            _record(attempt, [], actor, now)


def _attempt(key: Key, person: User, act: Act | None = None) -> Attempt:
    """Return the open attempt that waits for this person. Raises NotVisible for anybody else."""
    found = [
        attempts.open_attempt(act=wanted, key_id=key.pk)
        for wanted in (Act.CREATE, Act.REVOKE)
        if act in (None, wanted)
    ]
    waiting = [row for row in found if row is not None and selectors.is_by_hand(row)]
    if not waiting or not _may(key, person):
        raise NotVisible(f"{key.name} waits for nobody's hand")
    return waiting[0]


def _steps(attempt: Attempt) -> Sequence[str]:
    """Return what to do, at the server that issued the credential."""
    behind = selectors.left_behind(attempt)
    if behind is not None and behind.is_nameless:
        place = places.named(behind.server)
        return (
            f"Find at {place} the credential with the adopted value; its id is not known here.",
            "End it there, and nothing else.",
            "Confirm here that it no longer works.",
        )
    if behind is not None:
        what = behind.remote_id or "what was begun there"
        return (
            f"End {what} at {places.named(behind.server)}, where it was issued.",
            "Confirm here that it no longer works.",
        )
    provider = registry.provider(attempt.connection.provider)
    if isinstance(provider, Instructs):
        return provider.instructions(selectors.bare_call(attempt.connection), attempt.act)
    return ()


def _may(key: Key, person: User) -> bool:
    """Let the owners of the key act, and whoever looks after the Connection."""
    if not person.is_active:
        return False
    team = key.connection.team
    looks_after = team is not None and accounts.is_in(person, team.name)
    return person.pk in (key.owner_id, key.backup_owner_id) or looks_after


def _adopt(
    attempt: Attempt, material: Mapping[str, Secret], actor: Actor, now: datetime
) -> base.Issued:
    planned = base.Attempt.from_json(attempt.plan, {})
    with reach(attempt.connection, actor=actor, now=now, purpose="intake") as reached:
        if not isinstance(reached.plugin, Adopts):
            raise NotVisible(f"{attempt.tag} is not made by hand")
        try:
            return reached.plugin.adopt(reached.call(attempt.key.options), planned, material)
        except base.ProviderError as error:
            raise NotTaken(error.sentence) from None


def _record(attempt: Attempt, fields: list[str], actor: Actor, now: datetime) -> None:
    ledger.record(
        "intake.received",
        actor=actor,
        subject=attempts.subject_of(attempt),
        now=now,
        fields={"number": attempt.number, "fields": fields, "act": str(attempt.act)},
        request_id=attempt.request_id,
    )


def _go_on(attempt: Attempt, person: User, now: datetime) -> None:
    """Take up the job that waits for this hand, also while a worker is about to hold it."""
    queue.wake(kind=attempt.job_kind, subject_id=attempt.job_subject_id, person=person, now=now)
