"""Judge what a set of decisions amounts to, and whether a quorum can still be reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from approvals.policy.eligibility import Electorate, Seat
from approvals.policy.rules import Rules
from approvals.policy.seating import seat


class Verdict(StrEnum):
    """What one person can say about a request."""

    APPROVE = "approve"
    REJECT = "reject"
    CHANGES = "changes"


class Ruling(StrEnum):
    """What all decisions together amount to."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    CHANGES = "changes"


@dataclass(frozen=True, slots=True)
class Vote:
    """One decision on the current revision. `stage` is the stage that was open at the time."""

    person_id: UUID
    verdict: Verdict
    stage: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one stage has come, and who could still bring it further."""

    name: str
    need: int
    have: int
    is_open: bool
    approved_by: tuple[UUID, ...]
    can_act: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The ruling with all that explains it. `shortfall` is empty while a quorum is reachable."""

    ruling: Ruling
    stages: tuple[Progress, ...]
    open_stage: int
    seated: Mapping[UUID, Seat]
    solo: bool = False
    shortfall: str = ""


def judge(rules: Rules, voters: Electorate, votes: Sequence[Vote]) -> Judgement:
    """Return what these votes amount to under a policy.

    Only eligible people's votes count, linked accounts share one, one person
    fills one place across all stages. A denial beats any number of approvals,
    and one person's wish for changes beats any number of approvals.
    """
    counted = [vote for vote in votes if voters.may_decide(vote.person_id)]
    approvals = _seats(rules, voters, counted, Verdict.APPROVE)
    seated = seat(rules, approvals)
    open_stage = _open_stage(rules, approvals)
    solo = any(v.verdict == Verdict.APPROVE and v.person_id in voters.solo for v in counted)
    full = len(seated) == rules.quorum and rules.quorum > 0
    ruling = _ruling(rules, voters, counted, is_enough=solo or full)
    return Judgement(
        ruling=ruling,
        stages=_progress(rules, voters, votes, seated=seated, open_stage=open_stage),
        open_stage=open_stage,
        seated=seated,
        solo=solo and not full,
        shortfall=shortfall(rules, voters, votes) if ruling == Ruling.PENDING else "",
    )


def _ruling(rules: Rules, voters: Electorate, votes: Sequence[Vote], *, is_enough: bool) -> Ruling:
    if _denied(rules, voters, votes):
        return Ruling.REJECTED
    if any(vote.verdict == Verdict.CHANGES for vote in votes):
        return Ruling.CHANGES
    return Ruling.APPROVED if is_enough else Ruling.PENDING


def _denied(rules: Rules, voters: Electorate, votes: Sequence[Vote]) -> bool:
    """Say whether enough people of one stage, or a person acting alone, said no."""
    denials = _seats(rules, voters, votes, Verdict.REJECT, any_stage=True)
    if any(vote.verdict == Verdict.REJECT and vote.person_id in voters.solo for vote in votes):
        return True
    for index, stage in enumerate(rules.stages):
        said_no = [person for person, seats in denials.items() if index in {s.stage for s in seats}]
        if len(said_no) >= stage.deny_quorum:
            return True
    return False


def _seats(
    rules: Rules,
    voters: Electorate,
    votes: Sequence[Vote],
    verdict: Verdict,
    *,
    any_stage: bool = False,
) -> dict[UUID, frozenset[Seat]]:
    """Return the seats of each human who gave this verdict; in order, only of the stage then open."""
    found: dict[UUID, frozenset[Seat]] = {}
    for vote in votes:
        if vote.verdict != verdict:
            continue
        seats = voters.seats.get(vote.person_id, frozenset())
        if rules.ordered and not any_stage:
            seats = frozenset(seat for seat in seats if seat.stage == vote.stage)
        human = voters.human(vote.person_id)
        found[human] = found.get(human, frozenset()) | seats
    return found


def _open_stage(rules: Rules, approvals: Mapping[UUID, frozenset[Seat]]) -> int:
    """Return the first stage that is not full; the number of stages when all are."""
    need = 0
    for index, stage in enumerate(rules.stages):
        need += stage.quorum
        if len(seat(rules, approvals, stages=index + 1)) < need:
            return index
    return len(rules.stages)


def _progress(
    rules: Rules,
    voters: Electorate,
    votes: Sequence[Vote],
    *,
    seated: Mapping[UUID, Seat],
    open_stage: int,
) -> tuple[Progress, ...]:
    voted = {voters.human(vote.person_id) for vote in votes}
    rows = []
    for index, stage in enumerate(rules.stages):
        done = tuple(sorted(person for person, chair in seated.items() if chair.stage == index))
        able = (
            person
            for person, seats in voters.seats.items()
            if voters.human(person) not in voted and index in {s.stage for s in seats}
        )
        is_open = len(done) < stage.quorum and (not rules.ordered or index == open_stage)
        rows.append(
            Progress(stage.name, stage.quorum, len(done), is_open, done, tuple(sorted(able)))
        )
    return tuple(rows)


def shortfall(rules: Rules, voters: Electorate, votes: Sequence[Vote] = ()) -> str:
    """Return why the quorum cannot be reached and what would mend it; nothing when it can.

    Counts everybody who approved or still may, as if all of them said yes.
    """
    if voters.solo or not rules.stages:
        return ""
    spoken = {voters.human(v.person_id) for v in votes if v.verdict != Verdict.APPROVE}
    hopeful: dict[UUID, frozenset[Seat]] = {}
    for person, seats in voters.seats.items():
        human = voters.human(person)
        if human not in spoken:
            hopeful[human] = hopeful.get(human, frozenset()) | seats
    seated = seat(rules, hopeful)
    missing = rules.quorum - len(seated)
    return _mend(rules, seated, hopeful) if missing else ""


def _mend(
    rules: Rules, seated: Mapping[UUID, Seat], hopeful: Mapping[UUID, frozenset[Seat]]
) -> str:
    """Name the first stage that stays short, and the mend."""
    for index, stage in enumerate(rules.stages):
        have = sum(1 for chair in seated.values() if chair.stage == index)
        if have >= stage.quorum:
            continue
        able = sum(1 for seats in hopeful.values() if index in {s.stage for s in seats})
        where = ", ".join((*stage.all_groups, *(r.replace("_", " ") for r in stage.roles)))
        where = where or "the people whom the policy names"
        if able >= stage.quorum and rules.different_teams:
            return (
                f"{stage.name} cannot be filled: approvers must come from different teams, "
                "and nobody is left whose team has not been counted. "
                f"Mend: a member of another team must join {where} before you ask again."
            )
        return (
            f"{stage.name} needs {stage.quorum} and only {able} can decide. "
            f"Mend: add an enrolled person to {where}, then ask again; "
            "who joins later does not count for a request that is already open."
        )
    return ""
