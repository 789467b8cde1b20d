"""Register who uses a key, and end a registration. Inner writers: the caller owns the transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction

from approvals.ports import Actor, NeedsPerson, Subject, Unfinished
from keyvault.audit import ledger
from keyvault.dependents import probes, selectors
from keyvault.dependents.models import Dependent, Push
from keyvault.dependents.models import Health as Way
from keyvault.destinations.base import Health, State
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.connections.models import Connection
    from keyvault.vault.models import Version

BY_HAND_NAME = "Its owner, by hand"


class NameTaken(ValueError):
    """Another dependent of this key has the name, or the agent is one already."""


class PlaceTaken(ValueError):
    """A key is written to this place already; two would overwrite each other."""


def register(
    *,
    key: Key,
    name: str,
    health: str,
    now: datetime,
    actor: Actor,
    agent_id: UUID | None = None,
    wave: int = 0,
    cache_s: int = 0,
    is_discovered: bool = False,
) -> Dependent:
    """Register one user of a key; the caller holds the key's row lock. Raises NameTaken."""
    alive = Dependent.objects.filter(key=key, ended_at=None)
    if alive.filter(name=name).exists() or (agent_id and alive.filter(agent_id=agent_id).exists()):
        raise NameTaken(f"{name} is a dependent of {key.name} already.")
    found = Dependent.objects.create(
        key=key,
        agent_id=agent_id,
        name=name,
        health=health,
        wave=wave,
        cache_s=cache_s,
        is_discovered=is_discovered,
        created_at=now,
    )
    _record("dependent.registered", found, actor, now)
    return found


def register_place(
    *,
    key: Key,
    name: str,
    connection: Connection,
    target: Mapping[str, str],
    wave: int,
    cache_s: int,
    request_id: UUID,
    now: datetime,
    actor: Actor,
) -> Dependent:
    """Register a place that keyvault pushes a key to, as approved; the caller holds the key's row lock.

    Returns what this request has registered already. Raises NameTaken, PlaceTaken.
    """
    if made := Dependent.objects.filter(key=key, request_id=request_id).first():
        return made
    if Dependent.objects.filter(key=key, name=name, ended_at=None).exists():
        raise NameTaken(f"{name} is a dependent of {key.name} already.")
    taken = selectors.at_place(connection.pk, target)
    if taken is not None:
        raise PlaceTaken(f"{taken.key.name} is written to this place already.")
    try:
        with transaction.atomic():
            found = Dependent.objects.create(
                key=key,
                name=name,
                connection=connection,
                target=dict(target),
                health=Way.PUSHED,
                wave=wave,
                cache_s=cache_s,
                request_id=request_id,
                created_at=now,
            )
    except IntegrityError as error:
        # Another key was faster, whose row lock is not ours.
        raise PlaceTaken("Another key is written to this place already.") from error
    _record("dependent.registered", found, actor, now)
    return found


def note_trying(row: Dependent, version: Version) -> None:
    """Note that a version may be live at a place from now on, in the caller's transaction."""
    Dependent.objects.filter(pk=row.pk).update(push=Push.WRITING, push_note="", tried_id=version.pk)


def note_failed(
    row: Dependent, stop: Unfinished, *, is_last: bool, actor: Actor, now: datetime
) -> None:
    """Note that a place could not be written, and have the owner know where a person is needed.

    is_last: no other try is made unless somebody asks for it.
    """
    Dependent.objects.filter(pk=row.pk).update(push=Push.FAILED, push_note=stop.sentence)
    if is_last or isinstance(stop, NeedsPerson):
        sentence = f"{row.key.name} cannot be written to {row.name}: {stop.sentence}"
        _open_finding(row, sentence, actor=actor, now=now)


def note_turn(row: Dependent) -> None:
    """Note that a place is about to be written to, in the caller's transaction."""
    Dependent.objects.filter(pk=row.pk).update(push=Push.WRITING, push_note="")


def note_health(row: Dependent, found: Health, *, actor: Actor, now: datetime) -> None:
    """Note how a place is with what was written there, in the caller's transaction."""
    note_left(row, note="" if found.state is State.OK else found.reason)
    if found.state is State.BAD:
        sentence = f"{row.name} is not well with {row.key.name}: {found.reason}"
        _open_finding(row, sentence, actor=actor, now=now)


def note_left(row: Dependent, *, note: str) -> None:
    """Note what was left behind at a place, in the caller's transaction."""
    Dependent.objects.filter(pk=row.pk).update(push_note=note)


def note_there(
    row: Dependent, version: Version, *, server: Mapping[str, str], actor: Actor, now: datetime
) -> None:
    """Note that a version is live at a place, with its ledger line, in the caller's transaction."""
    Dependent.objects.filter(pk=row.pk).update(
        push=Push.THERE,
        push_note="",
        live_id=version.pk,
        tried_id=None,
        pushed_at=now,
        server=dict(server),
    )
    if row.live_id != version.pk:
        _record("dependent.pushed", row, actor, now, number=version.number)
    close_finding(row, "It was written there.", now=now)


def close_finding(row: Dependent, sentence: str, *, now: datetime) -> None:
    """Close what was found about a place, in the caller's transaction."""
    findings.close(
        kind=FindingKind.PLACE,
        subject=_subject(row),
        detail=str(row.pk),
        sentence=sentence,
        now=now,
    )


def removed(*, dependent: Dependent, actor: Actor, now: datetime) -> None:
    """Note that a place holds nothing of ours any more, and end its registration. Idempotent."""
    if Dependent.objects.filter(pk=dependent.pk).exclude(live_id=None).update(live_id=None):
        _record("dependent.removed", dependent, actor, now)
    close_finding(dependent, "It is not written to any more.", now=now)
    end(dependent=dependent, now=now, actor=actor)


def end(*, dependent: Dependent, now: datetime, actor: Actor) -> None:
    """End a registration, and have it asked no more; what it did stays readable. Idempotent."""
    probes.end(dependent=dependent, actor=actor, now=now)
    if Dependent.objects.filter(pk=dependent.pk, ended_at=None).update(ended_at=now):
        _record("dependent.ended", dependent, actor, now)


def complete(
    *, key: Key, users: Mapping[UUID, str], now: datetime, actor: Actor
) -> list[Dependent]:
    """Return all dependents of a key, after registering what was seen and nobody had registered.

    users: the agents that were seen using it, with their names. A key whose value
    is read by hand has a person among its dependents, because no program can say
    that the person has the new value. The caller holds the key's row lock.
    """
    rows = Dependent.objects.filter(key=key, ended_at=None)
    alive = list(rows.select_related("agent", "connection"))
    known = {row.agent_id for row in alive}
    names = {row.name for row in alive}
    for agent_id, name in users.items():
        if agent_id not in known:
            shown = name if name not in names else f"{name} ({agent_id})"
            names.add(shown)
            alive.append(
                register(
                    key=key,
                    name=shown,
                    agent_id=agent_id,
                    health=Way.READS,
                    is_discovered=True,
                    now=now,
                    actor=actor,
                )
            )
    if _needs_a_hand(key, alive):
        # Somebody else may have been given the name.
        name = BY_HAND_NAME if BY_HAND_NAME not in names else f"{BY_HAND_NAME} ({uuid4()})"
        hand = register(key=key, name=name, health=Way.BY_HAND, now=now, actor=actor)
        alive.append(hand)
    return alive


def _needs_a_hand(key: Key, alive: Sequence[Dependent]) -> bool:
    """Say whether a person may have the value of whom nobody has thought.

    Where all of it is pushed, a value that nobody has looked at is in no hands.
    """
    if key.delivery_mode != DeliveryMode.REVEAL:
        return False
    if any(row.health == Way.BY_HAND for row in alive):
        return False
    is_pushed = any(row.health == Way.PUSHED for row in alive)
    return not is_pushed or any(version.revealed_at for version in versions.live(key.pk))


def _open_finding(row: Dependent, sentence: str, *, actor: Actor, now: datetime) -> None:
    findings.open(
        kind=FindingKind.PLACE,
        subject=_subject(row),
        detail=str(row.pk),
        sentence=sentence,
        now=now,
        actor=actor,
    )


def _subject(row: Dependent) -> Subject:
    return Subject("key", str(row.key_id), row.key.name)


def _record(event: str, row: Dependent, actor: Actor, now: datetime, **more: int) -> None:
    ledger.record(
        event,
        actor=actor,
        subject=_subject(row),
        now=now,
        fields={"dependent": row.name, "wave": row.wave, "health": str(row.health), **more},
    )
