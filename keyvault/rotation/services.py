"""Write rotations: each transition once, with its ledger line, in the transaction that makes it true.

A rotation is begun by a trigger and then moved by its job alone; what people
choose is in `choosing`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings
from django.db.models.functions import Now

from approvals import queue
from approvals.ports import Actor, Subject
from keyvault.agents import selectors as agents
from keyvault.audit import ledger
from keyvault.dependents import selectors as who_uses
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyState
from keyvault.rotation import saga
from keyvault.rotation.models import ENDED, Delivery, DeliveryState, Rotation, Trigger
from keyvault.rotation.saga import State, Terms
from keyvault.usage import selectors as usage
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.vault.models import Version

JOB = "rotation.step"
# The jobs that write the current version to a place, or take it away, apart from any rotation.
DELIVER, REMOVE = "dependent.deliver", "dependent.remove"
# Somebody does on the key's page what is missing, and the held job goes on by itself.
BY_HAND = frozenset({"intake", "by_hand", "server_changed"})
CLOCK = Actor("system", "rotation", "Rotation")


class AlreadyRotating(Exception):
    """A rotation of this key is open; carries its id."""

    def __init__(self, key: Key, rotation_id: UUID) -> None:
        super().__init__(f"{key.name} is being rotated already.")
        self.rotation_id = rotation_id


class NotRotatable(Exception):
    """The key does not live or has no version in use. The message says which."""


class WrongMoment(Exception):
    """The rotation is not where this can be chosen. The message says where it is."""


def begin(
    *,
    key_id: UUID,
    trigger: str,
    request_id: UUID,
    started_by: str,
    actor: Actor,
    now: datetime,
    reason: str = "",
    deploy_id: str = "",
    slot: datetime | None = None,
) -> Rotation:
    """Begin a rotation in the caller's transaction and promise its job.

    request_id: the request that covers it. Raises AlreadyRotating, NotRotatable.
    """
    key = inventory.lock(key_id=key_id)
    current = _rotatable(key)
    users = _users(key, actor, now)
    rotation = Rotation.objects.create(
        key=key,
        request_id=request_id,
        trigger=trigger,
        reason=reason,
        deploy_id=deploy_id,
        slot=slot,
        started_by=started_by,
        since=Now(),
        old_id=current.pk,
        terms=_terms(users, trigger),
        created_at=now,
    )
    # Whoever fetches the value moves with the key's label, all at once, in the last wave.
    last = max((row.wave for row in users), default=0)
    Delivery.objects.bulk_create(
        Delivery(
            rotation=rotation, dependent=row, wave=row.wave if who_uses.is_written(row) else last
        )
        for row in users
    )
    queue.enqueue(kind=JOB, subject_id=rotation.pk)
    fields = {"trigger": str(trigger), "old": current.number, "deploy_id": deploy_id}
    record("rotation.started", rotation, actor, now, fields)
    return rotation


def _rotatable(key: Key) -> Version:
    """Return the version that a rotation of a locked key leaves. Raises what `begin` raises."""
    open_one = Rotation.objects.filter(key=key).exclude(state__in=ENDED).first()
    if open_one is not None:
        raise AlreadyRotating(key, open_one.pk)
    current = versions.current(key.pk)
    if key.state != KeyState.LIVE or current is None:
        raise NotRotatable(f"{key.name} is {key.get_state_display().lower()}.")
    return current


def _users(key: Key, actor: Actor, now: datetime) -> list[Dependent]:
    """Return whom a rotation waits for: who is registered, and who used the key and still may."""
    lately = usage.agents_lately(key.pk)
    may = agents.users_of(key, now=now).filter(pk__in=lately).values_list("pk", flat=True)
    users = {agent_id: lately[agent_id] for agent_id in may}
    return dependents.complete(key=key, users=users, now=now, actor=actor)


def _terms(users: Sequence[Dependent], trigger: str) -> dict[str, int]:
    """Return what a rotation runs by."""
    terms = {
        "grace_s": settings.ROTATION_GRACE_SECONDS,
        "quiet_s": settings.ROTATION_QUIET_SECONDS,
        "overlap_s": max((who_uses.lag_s(row) for row in users), default=0),
        "brownout_s": settings.ROTATION_BROWNOUT_SECONDS,
        "brownout_most": settings.ROTATION_BROWNOUT_FAILURES,
    }
    return cut(terms) if trigger == Trigger.INCIDENT else terms


def cut(terms: Mapping[str, int]) -> dict[str, int]:
    """Return terms as an incident has them: it cuts what is waited for, and no cache lifetime.

    What may have leaked is not to work one minute longer than it must, so an
    incident has no brown-out.
    """
    return {
        **terms,
        "grace_s": min(terms["grace_s"], settings.ROTATION_INCIDENT_GRACE_SECONDS),
        "quiet_s": min(terms["quiet_s"], settings.ROTATION_INCIDENT_QUIET_SECONDS),
        "brownout_s": 0,
    }


def enter(
    rotation: Rotation,
    state: State,
    *,
    now: datetime,
    wave: int | None = None,
    cause: str = "",
    sentence: str = "",
    actor: Actor = CLOCK,
    **facts: Any,  # noqa: ANN401 - columns of the row that change with the state.
) -> None:
    """Make one transition in the caller's transaction: a guarded update and its ledger line.

    Raises WrongMoment when the row is in another state by now, or the machine knows no such way.
    """
    before = State(rotation.state)
    if state not in saga.ALLOWED[before] and not (state is before and wave is not None):
        raise WrongMoment(f"A rotation never goes from {before} to {state}.")
    change = {
        "state": str(state),
        "since": Now(),
        "cause": cause,
        "sentence": sentence,
        "held_from": str(before) if state is State.HELD else "",
        **({"wave": wave, "old_verdict": saga.Old.UNTRIED} if wave is not None else {}),
        **({"ended_at": now} if state in saga.ENDS else {}),
        # While it was held nobody listened, so silence begins anew.
        **({"quiet_since": None} if state is State.DRAINING else {}),
        **({"brownout_at": None, "misses": 0} if state is State.BROWNOUT else {}),
        # Whoever wanted it back has been answered by the hold, and chooses anew.
        **({"wants_back": False} if state is State.HELD else {}),
        **facts,
    }
    still = Rotation.objects.filter(pk=rotation.pk, state=before)
    if state is State.REVOKING:
        # A person may have wanted it back since the worker has looked.
        still = still.filter(wants_back=False)
    if not still.update(**change):
        raise WrongMoment("Somebody else has moved this rotation.")
    rotation.refresh_from_db()
    fields = {"state": str(state), "before": str(before), "wave": rotation.wave, "cause": cause}
    record("rotation.moved", rotation, actor, now, fields)
    _tell(rotation, now)


def note(
    delivery: Delivery,
    state: DeliveryState,
    *,
    rotation: Rotation,
    now: datetime,
    text: str = "",
    **facts: Any,  # noqa: ANN401 - columns of the row that change with the state.
) -> bool:
    """Write down how far a dependent is, in the caller's transaction.

    Nothing, and False, where a person has excused it since it was looked at.
    """
    confirmed_at = now if state == DeliveryState.CONFIRMED else None
    unmoved = Delivery.objects.filter(pk=delivery.pk, state=delivery.state)
    if not unmoved.update(state=state, note=text, confirmed_at=confirmed_at, **facts):
        return False
    delivery.state = state
    fields = {"dependent": delivery.dependent.name, "state": str(state), "note": text}
    record("rotation.delivered", rotation, CLOCK, now, fields)
    return True


def ring(rotation_id: UUID) -> None:
    """Have the job look as soon as this transaction commits, whatever it waits for by now.

    One that is held for a value to be pasted would wait for ever for what a
    person has given up.
    """
    with suppress(queue.NotOpen):
        queue.cancel(kind=JOB, subject_id=rotation_id)
    queue.enqueue(kind=JOB, subject_id=rotation_id)
    queue.hasten(kind=JOB, subject_id=rotation_id)


def terms_of(rotation: Rotation) -> Terms:
    """Return what a rotation runs by."""
    return Terms(**rotation.terms)


def subject_of(rotation: Rotation) -> Subject:
    """Return the key of a rotation as the ledger names it."""
    return Subject("key", str(rotation.key_id), rotation.key.name)


def tell(rotation: Rotation, sentence: str, *, now: datetime) -> None:
    """Open the finding by which the owner of a key hears of it, in the caller's transaction."""
    findings.open(
        kind=FindingKind.ROTATION,
        subject=subject_of(rotation),
        detail=str(rotation.pk),
        sentence=sentence,
        now=now,
    )


def _tell(rotation: Rotation, now: datetime) -> None:
    """Have the owner know where a person is needed, and no longer than that.

    A rotation that went back unasked leaves its key overdue, until a later one has ended well.
    """
    name, subject = rotation.key.name, subject_of(rotation)
    is_failure = rotation.cause not in {saga.Cause.ASKED, saga.Cause.KEY_ENDED}
    if rotation.state == State.HELD:
        tell(rotation, rotation.sentence or f"The rotation of {name} waits for a person.", now=now)
    elif rotation.state == State.ROLLED_BACK and is_failure:
        tell(rotation, f"{rotation.sentence} The rotation of {name} went back.", now=now)
    else:
        detail = None if rotation.state == State.COMPLETED else str(rotation.pk)
        findings.close(
            kind=FindingKind.ROTATION,
            subject=subject,
            detail=detail,
            sentence="It goes on.",
            now=now,
        )


def record(  # noqa: PLR0917 - every caller passes all of it.
    event: str, rotation: Rotation, actor: Actor, now: datetime, fields: Mapping[str, Any]
) -> None:
    """Write a line of the ledger about a rotation, in the caller's transaction."""
    ledger.record(
        event,
        actor=actor,
        subject=subject_of(rotation),
        now=now,
        fields={"rotation": str(rotation.pk), **fields},
        request_id=rotation.request_id,
    )
