"""Who decides about a request, who could, and whether that is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from approvals import ports
from approvals.models import Policy, PolicyVersion, Request
from approvals.policy import matching
from approvals.policy.judging import Progress
from approvals.policy.rules import Auto, Rules
from approvals.selectors import ballots
from approvals.selectors.ballots import Ballot

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser


@dataclass(frozen=True, slots=True)
class StageView:
    """One stage as a page shows it, with people as snapshots."""

    name: str
    need: int
    have: int
    is_open: bool
    approved_by: tuple[ports.Actor, ...]
    can_act: tuple[ports.Actor, ...]


@dataclass(frozen=True, slots=True)
class Deciders:
    """Who decides: the policy's stages, and `shortfall` with its mend if they cannot.

    spared: people whom it concerns and who may decide, because nobody else can.
    """

    policy: str
    stages: tuple[StageView, ...]
    need: int
    have: int
    different_teams: bool
    ordered: bool
    solo: bool
    auto: str
    shortfall: str
    spared: tuple[ports.Actor, ...] = ()

    @property
    def is_reachable(self) -> bool:
        """Say whether enough people can still agree."""
        return not self.shortfall


@dataclass(frozen=True, slots=True)
class Preview:
    """What would happen if an action were submitted now."""

    deciders: Deciders | None
    risk: tuple[ports.RiskPoint, ...]
    risk_score: int
    refusal: str = ""


def who_decides(request: Request, *, now: datetime, ballot: Ballot | None = None) -> Deciders:
    """Return who decides about a request and how far they are."""
    return _view(ballot or ballots.read(request, now=now))


def preview(action: ports.Action, requester: AbstractBaseUser, *, now: datetime) -> Preview:
    """Return who would decide if this were sent now, and its risk. Writes nothing."""
    points = tuple(action.risk())
    try:
        rules = Rules.from_json(governing(action).body)
    except matching.NoPolicy as uncovered:
        return Preview(None, points, score(points), str(uncovered))
    facts = ballots.gather(
        rules,
        requester_id=requester.pk,
        submitted_at=now,
        attributes=action.attributes(),
        roles=ballots.roles_of(action, rules),
        roles_then=None,
        now=now,
    )
    refusal = denial(rules) if rules.auto == Auto.DENY else ""
    return Preview(_view(ballots.count(rules, facts, ())), points, score(points), refusal)


def governing(action: ports.Action) -> PolicyVersion:
    """Return the policy version that governs an action. Raises matching.NoPolicy."""
    return governing_of(action.kind, action.attributes())


def governing_of(kind: str, attributes: Mapping[str, frozenset[str]]) -> PolicyVersion:
    """Return the policy version that governs such acts now. Raises matching.NoPolicy."""
    rows = {row.body["name"]: row for row in current_policies()}
    rules = [Rules.from_json(row.body) for row in rows.values()]
    return rows[matching.match(rules, kind=kind, attributes=attributes).name]


def current_policies() -> list[PolicyVersion]:
    """Return the newest version of every policy that is in force."""
    return list(
        PolicyVersion.objects.filter(policy__in=Policy.objects.filter(archived_at=None))
        .select_related("policy")
        .order_by("policy_id", "-number")
        .distinct("policy_id")
    )


def score(points: Sequence[ports.RiskPoint]) -> int:
    """Return the risk 0 to 100 that signed points add up to."""
    return max(0, min(100, sum(point.points for point in points)))


def denial(rules: Rules) -> str:
    """Return the sentence for an act that a policy forbids outright."""
    return f"Policy {rules.name} does not allow this. Nobody can approve it."


def _view(ballot: Ballot) -> Deciders:
    judgement, rules = ballot.judgement, ballot.rules
    return Deciders(
        policy=rules.name,
        stages=tuple(_stage(stage) for stage in judgement.stages),
        need=1 if ballot.voters.solo else rules.quorum,
        have=len(judgement.seated),
        different_teams=rules.different_teams,
        ordered=rules.ordered,
        solo=bool(ballot.voters.solo),
        auto=rules.auto.value,
        shortfall=judgement.shortfall,
        spared=_actors(sorted(ballot.voters.spared)),
    )


def _stage(stage: Progress) -> StageView:
    return StageView(
        name=stage.name,
        need=stage.need,
        have=stage.have,
        is_open=stage.is_open,
        approved_by=_actors(stage.approved_by),
        can_act=_actors(stage.can_act),
    )


def _actors(people: Sequence[UUID]) -> tuple[ports.Actor, ...]:
    directory = ports.directory()
    actors = (directory.actor(person) for person in people)
    return tuple(sorted(actors, key=lambda actor: actor.label.casefold()))
