"""Whose decision counts for one request, and in words why anybody else's does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from approvals.policy.rules import Rules, Stage
from approvals.ports import Member, Standing

BAR = timedelta(hours=24)
ANY_TEAM = ""

SELF = "You asked for this, so somebody else must decide."
BEHIND = "A machine asked for this, and you answered for it then or do now: others must decide."
LINKED = "Another account of yours asked for this, so somebody else must decide."
INACTIVE = "This account is not active."
NOT_ENROLLED = "Enrol a second factor first: every decision is signed with one."
BARRED = "Your second factor was reset less than 24 hours ago. You may decide again after that."
RESET_SINCE = "Your second factor was reset after this request was made, so your vote cannot count."
LATE = "You joined the deciding group after this request was made, so your vote cannot count."
EXCLUDED = "The policy keeps the {role} of this from deciding about it."
STRANGER = "You are in none of the groups that decide about this request."


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of people at this moment, read under the lock of the request.

    roles: who holds each host role now. roles_then: who held it at submission.
    teams: host role to the groups it stands for, where the host named them.
    behind: who answers for the machine that asked, if one did, or did so when it asked.
    """

    requester_id: UUID
    submitted_at: datetime
    now: datetime
    standings: Mapping[UUID, Standing]
    members: Sequence[Member]
    roles: Mapping[str, frozenset[UUID]] = field(default_factory=dict)
    roles_then: Mapping[str, frozenset[UUID]] = field(default_factory=dict)
    teams: Mapping[str, frozenset[str]] = field(default_factory=dict)
    solo: bool = False
    behind: frozenset[UUID] = frozenset()


@dataclass(frozen=True, slots=True)
class Seat:
    """A way in which one person's approval can count: for a stage, on behalf of a team.

    People whom a policy names by themselves stand for no team (`ANY_TEAM`), so
    they never clash with another approver's.
    """

    stage: int
    team: str


@dataclass(frozen=True, slots=True)
class Electorate:
    """Who may decide now.

    seats: eligible people and where they count. barred: people of the stages
    who are not eligible, with the reason. solo: people who may decide alone.
    alias: account to the one account that stands for the human behind it.
    spared: people whom the request concerns and who decide because nobody else can.
    """

    seats: Mapping[UUID, frozenset[Seat]]
    barred: Mapping[UUID, str]
    solo: frozenset[UUID]
    alias: Mapping[UUID, UUID]
    spared: frozenset[UUID] = frozenset()

    def human(self, person_id: UUID) -> UUID:
        """Return the account that stands for this person and all linked ones."""
        return self.alias.get(person_id, person_id)

    def may_decide(self, person_id: UUID) -> bool:
        """Say whether this person's decision would count at all."""
        return person_id in self.seats or person_id in self.solo

    def why_not(self, person_id: UUID) -> str:
        """Return the reason in words, or nothing when the person may decide."""
        if self.may_decide(person_id):
            return ""
        return self.barred.get(person_id, STRANGER)


def electorate(rules: Rules, facts: Facts) -> Electorate:
    """Work out who may decide about one request at this moment."""
    alias = _aliases(facts.standings)
    chairs, late = _chairs(rules, facts)
    seats: dict[UUID, frozenset[Seat]] = {}
    barred: dict[UUID, str] = {}
    for person in {facts.requester_id, *chairs, *late}:
        reason = _bar(person, rules, facts, alias)
        if not reason and person not in chairs:
            reason = LATE if person in late else STRANGER
        if reason:
            barred[person] = reason
        else:
            seats[person] = frozenset(chairs[person])
    return Electorate(seats, barred, _alone(rules, facts), alias)


def _chairs(rules: Rules, facts: Facts) -> tuple[dict[UUID, set[Seat]], set[UUID]]:
    """Return people with the seats they would have, and those who came too late for one."""
    chairs: dict[UUID, set[Seat]] = {}
    late: set[UUID] = set()
    for index, stage in enumerate(rules.stages):
        for person, team, in_time in _people(stage, facts):
            if in_time:
                chairs.setdefault(person, set()).add(Seat(index, team))
            else:
                late.add(person)
    return chairs, late


def _people(stage: Stage, facts: Facts) -> Iterable[tuple[UUID, str, bool]]:
    """Yield each person of a stage, the team they would count for, and whether they came in time."""
    for member in facts.members:
        if member.group in stage.all_groups:
            yield member.person_id, member.group, member.joined_at <= facts.submitted_at
    for role in stage.roles:
        yield from _holders(role, facts)
    for person in stage.people:
        yield person, ANY_TEAM, True


def _holders(role: str, facts: Facts) -> Iterable[tuple[UUID, str, bool]]:
    """Yield the people in a host role; they must have held it at submission, too."""
    then = facts.roles_then.get(role, frozenset())
    teams = facts.teams.get(role, frozenset())
    for person in facts.roles.get(role, frozenset()):
        if not teams:
            yield person, f"role:{role}", person in then
            continue
        for member in facts.members:
            if member.person_id == person and member.group in teams:
                in_time = person in then and member.joined_at <= facts.submitted_at
                yield person, member.group, in_time


def _bar(person: UUID, rules: Rules, facts: Facts, alias: Mapping[UUID, UUID]) -> str:
    """Return why this person may never decide about this request, or nothing."""
    if person == facts.requester_id:
        return SELF
    if alias.get(person, person) == alias.get(facts.requester_id, facts.requester_id):
        return LINKED
    if alias.get(person, person) in {alias.get(one, one) for one in facts.behind}:
        return BEHIND
    for role in sorted(rules.exclude):
        kept_out = {alias.get(one, one) for one in facts.roles.get(role, frozenset())}
        if alias.get(person, person) in kept_out:
            return EXCLUDED.format(role=role.replace("_", " "))
    return _unfit(facts.standings.get(person), facts)


def _unfit(standing: Standing | None, facts: Facts) -> str:
    """Return what is wrong with the account itself, or nothing."""
    if standing is None or not standing.active:
        return INACTIVE
    if not standing.enrolled:
        return NOT_ENROLLED
    if standing.barred_until is None:
        return ""
    if standing.barred_until > facts.now:
        return BARRED
    return RESET_SINCE if standing.barred_until - BAR > facts.submitted_at else ""


def _alone(rules: Rules, facts: Facts) -> frozenset[UUID]:
    """Return who may decide alone because the installation still has one administrator."""
    if not facts.solo:
        return frozenset()
    return frozenset(
        member.person_id
        for member in facts.members
        if member.group in rules.solo
        and member.joined_at <= facts.submitted_at
        and not _unfit(facts.standings.get(member.person_id), facts)
    )


def _aliases(standings: Mapping[UUID, Standing]) -> dict[UUID, UUID]:
    """Return one representative for each set of linked accounts, links of links included."""
    parent: dict[UUID, UUID] = {}

    def root(person: UUID) -> UUID:
        while parent.get(person, person) != person:
            person = parent[person]
        return person

    for standing in standings.values():
        for other in standing.linked:
            low, high = sorted((root(standing.person_id), root(other)))
            parent[high] = low
    return {person: root(person) for person in [*parent, *standings]}
