"""Rotate many keys at once: asked, shown and begun in one file.

What is approved is to begin; a batch then begins one key after the other, and
each rotation runs by itself as that of one key does. The policies for one key
govern many as well: the strictest of all that match decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.policy.rules import BadPolicy
from approvals.ports import Change, Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys, many_keys
from keyvault.actions.rotate_key import RotateKey
from keyvault.inventory import access, exposures, selectors
from keyvault.inventory.models import Key, KeyState
from keyvault.inventory.selectors import Filters
from keyvault.rotation import batches, progress
from keyvault.rotation.models import Trigger

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from approvals.models import Request

JSON = Any
ASKED = (Trigger.MANUAL, Trigger.INCIDENT)
_FIELDS = frozenset({"batch_id", "key_ids", "trigger", "reason", "started_by", "person_id"})


class NotRotatable(Exception):
    """Nothing can be rotated, or too much is asked at once. The message says which."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKeys:
    """Begin to move many keys to new versions, the riskiest first."""

    kind: ClassVar[str] = many_keys.ROTATE
    title: ClassVar[str] = "Rotate many keys"

    batch_id: UUID
    key_ids: tuple[UUID, ...]
    trigger: str
    reason: str
    started_by: str
    person_id: UUID

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {
            "batch_id": str(self.batch_id),
            "key_ids": [str(one) for one in self.key_ids],
            "trigger": self.trigger,
            "reason": self.reason,
            "started_by": self.started_by,
            "person_id": str(self.person_id),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != _FIELDS:
            raise ValueError("The stored action has other fields than a rotation of many keys.")
        return cls(
            batch_id=UUID(payload["batch_id"]),
            key_ids=tuple(UUID(one) for one in payload["key_ids"]),
            trigger=str(Trigger(payload["trigger"])),
            reason=str(payload["reason"]),
            started_by=str(payload["started_by"]),
            person_id=UUID(payload["person_id"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: all that any of the keys has, and the kind for one key."""
        found: dict[str, frozenset[str]] = defaultdict(frozenset)
        alike = {many_keys.sort(key): key for key in self._keys()}
        for key in alike.values():
            for name, values in about_keys.attributes_of(key).items():
                found[name] |= values
        one_key = frozenset({RotateKey.kind})
        return found | {"trigger": frozenset({self.trigger}), "kind": one_key}

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owners of any of the keys, or who is in the teams of all of them.

        Whoever decides for the owner's team decides about every key.
        """
        found = [
            about_keys.people_of(key, role) for key in many_keys.by_team_and_owner(self._keys())
        ]
        if role == "owner_team":
            return frozenset.intersection(*found) if found else frozenset()
        return frozenset().union(*found)

    def visible_to(self, person_id: UUID) -> bool:
        """Let whoever may see all of the keys see what is asked about them."""
        if about_keys.role_may_look(person_id):
            return True
        try:
            person = people.user(person_id)
        except ports.NotVisible:
            return False
        seen = access.visible_keys(person).filter(pk__in=self.key_ids).count()
        return seen == len(self.key_ids)

    def describe(self) -> Plan:
        """Return which keys move, where, and by what terms."""
        keys = self._keys()
        places = many_keys.by_connection(keys)
        return Plan(
            title=f"Rotate {many_keys.count(keys)}",
            sentence=(
                f"Make a new version of {many_keys.count(keys)} at {many_keys.places(places)}, the riskiest first "
                f"and at most {settings.ROTATION_PER_CONNECTION} at a time at each Connection; "
                "move everybody who uses them, and end the old versions when nobody does."
            ),
            target=Subject("rotation_batch", str(self.batch_id), many_keys.count(keys)),
            fingerprint=digests.act_digest(kind="rotation_batch", id=self.batch_id),
            changes=(
                Change("Begun by", "", Trigger(self.trigger).label),
                *self._terms(),
                *many_keys.environments(keys),
                *(
                    Change(f"Keys at {where.title}", "", tuple(key.name for key in inside))
                    for where, inside in places.items()
                ),
            ),
            body={
                "key_ids": [str(one) for one in self.key_ids],
                "servers": many_keys.servers(places),
            },
            breaks=(
                "Nothing, if all goes well: a key has two versions until everybody has moved.",
            ),
            undo="Until an old version is ended, its rotation can be rolled back; what has not "
            "begun can be stopped.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes moving these keys risky."""
        keys, points = self._keys(), []
        protected = sum(key.environment.protected for key in keys)
        if protected:
            text = f"{protected} of {len(keys)} keys are in protected environments."
            points.append(RiskPoint(10, "Protected environment", text))
        worst = max(map(exposures.score, keys), default=0)
        points.append(RiskPoint(5, "Many at once", f"The riskiest of them has risk {worst}."))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Write the batch down and promise its job. Idempotent on `request_id`."""
        self._require_servers(request_id)
        with transaction.atomic(durable=True):
            run.fence()
            if progress.by_request(request_id) is None:
                batches.create(
                    batch_id=self.batch_id,
                    key_ids=self.key_ids,
                    trigger=self.trigger,
                    reason=self.reason,
                    request_id=request_id,
                    person=people.user(self.person_id),
                    started_by=self.started_by,
                    actor=about_keys.WORKER,
                    now=run.now,
                )
        count = many_keys.count(self.key_ids)
        return Outcome(f"The rotation of {count} goes on by itself.", {"Keys": count})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the page of the batch once there is one, and before that the list of keys."""
        found = progress.by_request(request_id)
        return reverse("rotation-batch", args=[found.pk]) if found else reverse("keys")

    def _require_servers(self, request_id: UUID) -> None:
        """Stop a run one of whose Connections leads elsewhere than approved. Raises CannotExecute."""
        approved = requests.plan_of(request_id)["body"]["servers"]
        for where in many_keys.by_connection(self._keys()):
            if approved[str(where.pk)]["server"] != about_keys.server(where)["server"]:
                sentence = f"{where.title} leads to another server than the one approved."
                raise ports.CannotExecute("server_changed", f"{sentence} Ask again.")

    def _terms(self) -> tuple[Change, ...]:
        if self.trigger != Trigger.INCIDENT:
            return ()
        grace_s = min(settings.ROTATION_GRACE_SECONDS, settings.ROTATION_INCIDENT_GRACE_SECONDS)
        quiet_s = min(settings.ROTATION_QUIET_SECONDS, settings.ROTATION_INCIDENT_QUIET_SECONDS)
        return (
            Change("Waits for dependents", "", str(timedelta(seconds=grace_s))),
            Change("Silent before the end", "", str(timedelta(seconds=quiet_s))),
            Change("Sessions of old versions", "", "ended where the provider can"),
        )

    def _keys(self) -> list[Key]:
        found = Key.objects.filter(pk__in=self.key_ids).order_by("name")
        return list(found.select_related("environment", "connection__environment", "team__team"))


def of_names(person: User, names: Sequence[str]) -> tuple[list[Key], list[int]]:
    """Return the keys of these names that a person may have rotated, and the places of the others.

    A name that is hidden, missing or another's looks the same. A key that is not
    active is among the found: its batch says so.
    """
    rows = {key.name: key for key in access.rotatable_keys(person).filter(name__in=names)}
    return list(rows.values()), [at for at, name in enumerate(names) if name not in rows]


def of_filters(person: User, filters: Filters, *, now: datetime) -> QuerySet[Key]:
    """Return the active keys behind the filters of a list that a person may have rotated."""
    keys = access.rotatable_keys(person).filter(state=KeyState.LIVE)
    return selectors.matching(keys, filters, person=person, now=now).order_by("name")


def plan(
    *, person: User, keys: Iterable[Key], trigger: str = Trigger.MANUAL, reason: str = ""
) -> RotateKeys:
    """Return the action as it would be asked now. Raises NotRotatable.

    The caller has taken the keys from `of_names` or `of_filters`.
    """
    ids = tuple(sorted({key.pk for key in keys}))
    if not ids:
        raise NotRotatable("None of these keys is active and yours to have rotated.")
    if len(ids) > batches.MOST:
        raise NotRotatable(
            f"These are {len(ids):,} keys; at most {batches.MOST:,} are rotated at once. "
            "Narrow the choice, for example to one Connection."
        )
    return RotateKeys(
        batch_id=uuid4(),
        key_ids=ids,
        trigger=str(Trigger(trigger)),
        reason=reason,
        started_by=people.actor(person).label,
        person_id=person.pk,
    )


def ask(*, person: User, action: RotateKeys, now: datetime, ticket: str = "") -> Request:
    """Ask for what `plan` has returned. Raises NotRotatable, and what `submit` raises."""
    with transaction.atomic(durable=True):
        try:
            return services.submit(
                action=action, requester=person, reason=action.reason, ticket=ticket, now=now
            )
        except BadPolicy as error:
            raise NotRotatable(
                "These keys are too different for the policies to judge them at once. "
                "Narrow the choice, for example to one team."
            ) from error
