"""Read everything that a judgement needs, and judge: the one way to know who may decide."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from approvals import ports
from approvals.models import Request
from approvals.policy.eligibility import Electorate, Facts, electorate
from approvals.policy.judging import Judgement, Verdict, Vote, judge
from approvals.policy.rules import Rules
from approvals.policy.yielding import step_back

TEAM_ATTRIBUTES = {"owner_team": "team"}
ACCOUNTS_OF_A_HUMAN = 8
# Beside the host's roles a request keeps who answered for the machine that asked: whoever
# hands the machine over meanwhile cannot then agree to what it asked in their time.
BEHIND = "behind_asker"


@dataclass(frozen=True, slots=True)
class Ballot:
    """The state of one vote: the rules, who may decide, what was said and what it amounts to."""

    rules: Rules
    facts: Facts
    voters: Electorate
    votes: tuple[Vote, ...]
    judgement: Judgement


def action_of(request: Request) -> ports.Action:
    """Rebuild the action of a request. Raises LookupError on a kind nobody registered."""
    return ports.action_class(request.kind).from_payload(request.payload)


class Snapshot:
    """A directory that asks the host for each group and each person once; for reading lists."""

    def __init__(self) -> None:
        self._members: dict[str, list[ports.Member]] = {}
        self._standings: dict[UUID, ports.Standing | None] = {}
        self._behind: dict[ports.Actor, frozenset[UUID]] = {}
        self._solo: bool | None = None

    @classmethod
    def of(cls, requests: Sequence[Request]) -> Snapshot:
        """Return one that has asked, all at once, whatever a glance at these requests asks."""
        found, groups, people = cls(), set[str](), set[UUID]()
        for request in requests:
            rules = Rules.from_json(request.policy_version.body)
            groups |= rules.groups.union(*_teams(request.attributes, rules).values())
            people |= {request.requester_id, *_named(rules)}
            people.update(*_stored_roles(request).values())
        behind = found.answering_for({row.asked_by for row in requests if row.asked_by})
        people.update(*behind.values())
        people |= {member.person_id for member in found.members(sorted(groups))}
        _standings(people, found)
        return found

    def members(self, groups: Collection[str]) -> list[ports.Member]:
        """Return live memberships of the groups."""
        missing = [group for group in groups if group not in self._members]
        self._members.update({group: [] for group in missing})
        for member in ports.directory().members(missing) if missing else ():
            self._members[member.group].append(member)
        return [member for group in groups for member in self._members[group]]

    def standings(self, person_ids: Collection[UUID]) -> dict[UUID, ports.Standing]:
        """Return the standing of each known id."""
        missing = [person for person in person_ids if person not in self._standings]
        found = ports.directory().standings(missing) if missing else {}
        self._standings.update({person: found.get(person) for person in missing})
        return {
            person: standing
            for person in person_ids
            if (standing := self._standings[person]) is not None
        }

    def solo(self) -> bool:
        """Say whether the installation is in solo mode."""
        if self._solo is None:
            self._solo = ports.directory().solo()
        return self._solo

    def actor(self, person_id: UUID) -> ports.Actor:
        """Return the snapshot of a person."""
        return ports.directory().actor(person_id)

    def only_looks(self, person_id: UUID) -> bool:
        """Say whether a person is here to look only."""
        return ports.directory().only_looks(person_id)

    def answering_for(
        self, askers: Collection[ports.Actor]
    ) -> Mapping[ports.Actor, frozenset[UUID]]:
        """Return the people who answer for each machine now."""
        missing = [asker for asker in askers if asker not in self._behind]
        self._behind.update(ports.directory().answering_for(missing) if missing else {})
        return {asker: self._behind[asker] for asker in askers}


def read(request: Request, *, now: datetime) -> Ballot:
    """Judge the current revision against who people are now.

    Only decisions on the very digest that is stored now are read, so that a
    row changed behind the services loses its approvals.
    """
    rules = Rules.from_json(request.policy_version.body)
    roles = roles_of(action_of(request), rules)
    return _judged(request, rules, roles, now=now, directory=ports.directory())


def glance(request: Request, *, now: datetime, directory: Snapshot) -> Ballot:
    """Judge the current revision for a list, without a question to its action.

    Host roles are those of submission, so whoever has lost one since may still
    be counted; what somebody had not lost before, a glance never leaves out.
    Groups, people and votes are those of now. What is decided goes by `read`.
    """
    rules = Rules.from_json(request.policy_version.body)
    roles = _stored_roles(request)
    return _judged(request, rules, roles, now=now, directory=directory)


def _judged(
    request: Request,
    rules: Rules,
    roles: Mapping[str, frozenset[UUID]],
    *,
    now: datetime,
    directory: ports.Directory,
) -> Ballot:
    facts = gather(
        rules,
        requester_id=request.requester_id,
        submitted_at=request.created_at,
        attributes=request.attributes,
        roles=roles,
        roles_then=_stored_roles(request),
        now=now,
        directory=directory,
        asked_by=request.asked_by,
    )
    votes = tuple(
        Vote(row.person_id, Verdict(row.verdict), row.stage)
        for row in request.decisions.all()
        if row.revision == request.revision and row.plan_digest == request.plan_digest
    )
    return count(rules, facts, votes)


def may_concern(request: Request, person_id: UUID, directory: ports.Directory) -> bool:
    """Say whether a person could sit in any stage, from stored rows and cached groups alone.

    Lists ask this first, because it is cheaper than to judge. Never false for somebody whom `read` would let decide.
    """
    rules = Rules.from_json(request.policy_version.body)
    named = _named(rules)
    held = {person for people in request.roles.values() for person in people}
    members = directory.members(sorted(rules.groups))
    return (
        person_id in named
        or str(person_id) in held
        or any(member.person_id == person_id for member in members)
    )


def count(rules: Rules, facts: Facts, votes: tuple[Vote, ...]) -> Ballot:
    """Judge votes under rules and facts that were read before."""
    voters = step_back(rules, facts, electorate(rules, facts))
    return Ballot(rules, facts, voters, votes, judge(rules, voters, votes))


def roles_of(action: ports.Action, rules: Rules) -> dict[str, frozenset[UUID]]:
    """Ask an action who holds the host's roles now that its rules name."""
    return {role: action.people(role) for role in sorted(rules.roles)}


def gather(
    rules: Rules,
    *,
    requester_id: UUID,
    submitted_at: datetime,
    attributes: Mapping[str, Collection[str]],
    roles: Mapping[str, frozenset[UUID]],
    roles_then: Mapping[str, frozenset[UUID]] | None,
    now: datetime,
    directory: ports.Directory | None = None,
    asked_by: ports.Actor | None = None,
) -> Facts:
    """Read who people are now.

    attributes: those of the submitted request, or of the action before it is
    one. roles_then: who held the host's roles at submission; None takes
    today's, because nothing is submitted yet.
    """
    directory = directory or ports.directory()
    teams = _teams(attributes, rules)
    groups = rules.groups.union(*teams.values()) if teams else rules.groups
    members = directory.members(sorted(groups))
    behind = directory.answering_for([asked_by])[asked_by] if asked_by else frozenset[UUID]()
    behind |= (roles_then or {}).get(BEHIND, frozenset())
    everybody = {requester_id, *behind, *_named(rules), *(row.person_id for row in members)}
    everybody.update(*roles.values())
    return Facts(
        requester_id=requester_id,
        submitted_at=submitted_at,
        now=now,
        standings=_standings(everybody, directory),
        members=members,
        roles=roles,
        roles_then=roles if roles_then is None else roles_then,
        teams=teams,
        solo=directory.solo(),
        behind=behind,
    )


def _named(rules: Rules) -> frozenset[UUID]:
    return frozenset(person for stage in rules.stages for person in stage.people)


def _stored_roles(request: Request) -> dict[str, frozenset[UUID]]:
    return {role: frozenset(map(UUID, people)) for role, people in request.roles.items()}


def _teams(attributes: Mapping[str, Collection[str]], rules: Rules) -> dict[str, frozenset[str]]:
    """Return the groups that host roles stand for, where the action names them."""
    return {
        role: frozenset(attributes[name])
        for role, name in TEAM_ATTRIBUTES.items()
        if role in rules.roles and attributes.get(name)
    }


def _standings(people: Iterable[UUID], directory: ports.Directory) -> dict[UUID, ports.Standing]:
    """Return standings of people and, over a few steps, of the accounts linked to them."""
    found: dict[UUID, ports.Standing] = {}
    missing = set(people)
    for _ in range(ACCOUNTS_OF_A_HUMAN):
        if not missing:
            break
        found.update(directory.standings(missing))
        linked = {other for standing in found.values() for other in standing.linked}
        missing = linked - set(found) - missing
    return found
