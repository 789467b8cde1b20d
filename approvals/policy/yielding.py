"""Keep the person concerned from deciding, as long as others can: nobody gets stuck over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from approvals.policy.eligibility import Electorate, Facts, Seat
from approvals.policy.rules import Rules
from approvals.policy.seating import seat

CONCERNED = "This is about you, and others can decide about it."


def step_back(rules: Rules, facts: Facts, voters: Electorate) -> Electorate:
    """Return the electorate without those whom the policy lets step back.

    They stay, and are named in `spared`, where the quorum could not be filled
    without them. Who has voted already makes no difference, so that a vote
    cannot open the way for the person concerned.
    """
    held = {person for role in rules.step_back for person in facts.roles.get(role, ())}
    humans = {voters.human(person) for person in held}
    concerned = frozenset(person for person in voters.seats if voters.human(person) in humans)
    if not concerned:
        return voters
    others = {person: seats for person, seats in voters.seats.items() if person not in concerned}
    if len(seat(rules, _by_human(voters, others))) < rules.quorum:
        return replace(voters, spared=concerned)
    barred = {**voters.barred, **dict.fromkeys(concerned, CONCERNED)}
    return replace(voters, seats=others, barred=barred)


def _by_human(
    voters: Electorate, seats: Mapping[UUID, frozenset[Seat]]
) -> dict[UUID, frozenset[Seat]]:
    found: dict[UUID, frozenset[Seat]] = {}
    for person, held in seats.items():
        human = voters.human(person)
        found[human] = found.get(human, frozenset()) | held
    return found
