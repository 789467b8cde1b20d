"""Change what was declared about several keys by one request: asked, shown and done in one file.

All of them change, or none. The policies for one key govern many as well: the
strictest of all that match decides. Whoever asks the same again, in whatever
order, is led to the request that waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID, uuid4

from django.db import transaction
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.policy.rules import BadPolicy
from approvals.ports import Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys, askers, change_key, many_keys
from keyvault.actions.change_key import ChangeKey, NothingToChange, Use
from keyvault.invalidation import services as invalidation
from keyvault.inventory import access, changes
from keyvault.inventory import services as inventory
from keyvault.inventory.models import Key, KeyPermission

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any
MOST = 200
_FIELDS = frozenset({"batch_id", "uses"})


class TooDifferent(Exception):
    """Policies cannot judge these keys at once; they can be asked for one by one."""


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeKeys:
    """Make each of several live keys say what its use says. `uses`: in the order of the ids."""

    kind: ClassVar[str] = many_keys.CHANGE
    title: ClassVar[str] = "Change many keys"

    batch_id: UUID
    uses: tuple[tuple[UUID, Use], ...]

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action."""
        return {"batch_id": str(self.batch_id), "uses": _plain(self.uses)}

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != _FIELDS or not payload["uses"]:
            raise ValueError("The stored action has other fields than a change of many keys.")
        return cls(
            batch_id=UUID(payload["batch_id"]),
            uses=tuple((UUID(one["key_id"]), Use.from_json(one["use"])) for one in payload["uses"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on: all that any of the keys has, and the kind for one key."""
        found: dict[str, frozenset[str]] = defaultdict(frozenset)
        alike = {(many_keys.sort(key), use.labels): (key, use) for key, use in self._pairs()}
        for key, use in alike.values():
            for name, values in change_key.attributes(key, use).items():
                found[name] |= values
        return found | {"kind": frozenset({ChangeKey.kind})}

    def people(self, role: str) -> frozenset[UUID]:
        """Return the owners of any of the keys, or who is in the teams of all of them.

        Whoever decides for the owner's team decides about every key.
        """
        keys = many_keys.by_team_and_owner(key for key, _ in self._pairs())
        found = [about_keys.people_of(key, role) for key in keys]
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
        return access.visible_keys(person).filter(pk__in=self._ids()).count() == len(self.uses)

    def describe(self) -> Plan:
        """Return what changes about each key; what stays is no part of it."""
        pairs = list(self._pairs())
        count = many_keys.count(pairs)
        lost = {text for key, use in pairs for text in change_key.breaks(Use.of(key), use)}
        return Plan(
            title=f"Change {count}",
            sentence=(
                f"Change what holds for {count}, all at once. Their values stay the same: "
                f"{', '.join(key.name for key, _ in pairs)}."
            ),
            target=Subject("key_changes", str(self.batch_id), count),
            fingerprint=digests.act_digest(kind="key_changes", id=self.batch_id),
            changes=(
                *(
                    replace(row, field=f"{row.field} of {key.name}")
                    for key, use in pairs
                    for row in change_key.differences(Use.of(key), use)
                ),
                *many_keys.environments([key for key, _ in pairs]),
            ),
            body=self.to_payload(),
            breaks=tuple(sorted(lost)),
            undo="Ask to change them back.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes the riskiest of the changes risky, and that there are many."""
        each = [change_key.risk_points(key, use) for key, use in self._pairs()]
        worst = max(each, key=_sum, default=[])
        return [*worst, RiskPoint(5, "Many at once", "These are the points of the riskiest one.")]

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Change all of the rows, or none. A second try finds them changed and does nothing."""
        try:
            with transaction.atomic(durable=True):
                run.fence()
                names = [
                    changes.change_use(
                        key_id=key_id,
                        use=use.to_json(),
                        request_id=request_id,
                        actor=about_keys.WORKER,
                        now=run.now,
                    ).name
                    for key_id, use in self.uses
                ]
                xact = invalidation.transaction_id()
        except inventory.WrongState as error:
            raise ports.CannotExecute("wrong_state", str(error)) from error
        run.reached("keys:changed")
        effect = about_agents.gateways(invalidation.wait(xact))
        count = many_keys.count(names)
        return Outcome(f"{count} are changed.", {"Keys": ", ".join(sorted(names))} | effect)

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Reserve nothing, so there is nothing to undo."""

    def subject_url(self, request_id: UUID) -> str:
        """Return the list of keys: none of them is what the request is about."""
        del request_id
        return reverse("keys")

    def _ids(self) -> list[UUID]:
        return [key_id for key_id, _ in self.uses]

    def _pairs(self) -> Iterator[tuple[Key, Use]]:
        """Yield each key with what it is to say, by name."""
        uses = dict(self.uses)
        found = Key.objects.filter(pk__in=uses).order_by("name")
        for key in found.select_related("environment", "connection__environment", "team__team"):
            yield key, uses[key.pk]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one key is to say: fields of `Use`; what is left out stays.

    require: looks at the row when nobody else can change it any more, and raises
    where it is not what the asker has seen.
    """

    name: str
    fields: Mapping[str, JSON]
    require: Callable[[Key], None] = lambda _key: None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, and whether it was made now or waited already."""

    request: Request
    is_new: bool


def ask(
    *,
    person: User,
    wanted: Sequence[Wanted],
    reason: str,
    now: datetime,
    ticket: str = "",
    agent_id: UUID | None = None,
) -> Asked:
    """Ask that live keys, each named once, say what is wanted of them.

    `agent_id`: the person's agent that asks. What is asked already, by the same and in full,
    is not asked again. Raises NotVisible, NotChangeable, NothingToChange, TooDifferent,
    about_keys.AlreadyAsked, and what `askers.admit` and `approvals.services.submit` raise.
    """
    with transaction.atomic(durable=True):
        askers.lock(agent_id)
        keys = _locked(person, [one.name for one in wanted])
        uses = dict(_uses(keys, wanted))
        if not uses:
            raise NothingToChange("That is how it is already.")
        action = _action(uses)
        if waiting := _same(action, person, agent_id):
            return Asked(waiting, is_new=False)
        for key in keys.values():
            if key.pk in uses:
                change_key.refuse_second(key)
        asked_by = askers.admit(agent_id)
        try:
            made = services.submit(
                action=action,
                requester=person,
                reason=reason,
                ticket=ticket,
                now=now,
                asked_by=asked_by,
            )
        except BadPolicy as error:
            raise TooDifferent("Policies cannot judge these keys at once.") from error
        return Asked(made, is_new=True)


def _locked(person: User, names: Sequence[str]) -> dict[str, Key]:
    """Return the keys by name under row locks, taken in one order whoever asks for them."""
    found = {name: access.access_key(person, name, KeyPermission.MANAGE).pk for name in names}
    rows = {key_id: inventory.lock(key_id=key_id) for key_id in sorted(found.values())}
    return {name: rows[key_id] for name, key_id in found.items()}


def _uses(keys: Mapping[str, Key], wanted: Sequence[Wanted]) -> Iterator[tuple[UUID, Use]]:
    """Yield what each key is to say that does not say it. Raises NotChangeable."""
    for one in wanted:
        key = keys[one.name]
        now = Use.of(key)
        then = replace(now, **one.fields)
        change_key.require_fit(key, then)
        one.require(key)
        if then != now:
            yield key.pk, then


def _action(uses: Mapping[UUID, Use]) -> ChangeKey | ChangeKeys:
    """Return the act for one key or for several: the same keys bring the same one."""
    if len(uses) == 1:
        [(key_id, use)] = uses.items()
        return ChangeKey(key_id=key_id, use=use)
    return ChangeKeys(batch_id=uuid4(), uses=tuple(sorted(uses.items(), key=lambda one: one[0])))


def _same(action: ChangeKey | ChangeKeys, person: User, agent_id: UUID | None) -> Request | None:
    """Return the open request of this asker for exactly this, if there is one."""
    wanted = action.to_payload()
    wanted.pop("batch_id", None)
    for row in requests.open_with(action.kind, **wanted):
        if row.requester_id == person.pk and row.asked_by_id == str(agent_id or ""):
            return row
    return None


def _plain(uses: Sequence[tuple[UUID, Use]]) -> list[JSON]:
    return [{"key_id": str(key_id), "use": use.to_json()} for key_id, use in uses]


def _sum(points: Sequence[RiskPoint]) -> int:
    return sum(point.points for point in points)
