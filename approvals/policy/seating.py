"""Seat approvers so that each person fills at most one place of the quorum.

The places are the stages' quorums. People and places form a bipartite graph;
a maximum matching (Kuhn's augmenting paths) never refuses a combination of
approvers that would do, as counting first come, first served can.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from uuid import UUID

from approvals.policy.eligibility import ANY_TEAM, Seat
from approvals.policy.rules import BadPolicy, Rules

MAX_TEAM_CHOICES = 20_000

Seats = Mapping[UUID, frozenset[Seat]]


def seat(rules: Rules, people: Seats, *, stages: int | None = None) -> dict[UUID, Seat]:
    """Return a largest seating of people in the first `stages` stages (default: all).

    With `different_teams`, no two people are seated for the same team.
    """
    places = [
        index for index, stage in enumerate(rules.stages[:stages]) for _ in range(stage.quorum)
    ]
    if not rules.different_teams:
        return _match(
            [[Seat(place, team) for team in _teams(people, place)] for place in places], people
        )
    best: dict[UUID, Seat] = {}
    for choice in _team_choices(places, people):
        found = _match([[] if seat is None else [seat] for seat in choice], people)
        if len(found) > len(best):
            best = found
        if len(best) == len(places):
            break
    return best


def _teams(people: Seats, stage: int) -> list[str]:
    return sorted({seat.team for seats in people.values() for seat in seats if seat.stage == stage})


def _team_choices(places: Sequence[int], people: Seats) -> Iterator[tuple[Seat | None, ...]]:
    """Yield ways to give each place a team (or nobody) with no team twice, fullest first."""
    options: list[list[Seat | None]] = [
        [*(Seat(place, team) for team in _teams(people, place)), None] for place in places
    ]
    size = 1
    for option in options:
        size *= len(option)
    if size > MAX_TEAM_CHOICES:
        raise BadPolicy("This policy has too many teams to tell different ones apart; split it.")
    for choice in sorted(product(*options), key=lambda seats: seats.count(None)):
        teams = [seat.team for seat in choice if seat and seat.team != ANY_TEAM]
        if len(teams) == len(set(teams)):
            yield choice


def _match(places: Sequence[Sequence[Seat]], people: Seats) -> dict[UUID, Seat]:
    """Return a maximum matching of people to places; each place lists the seats it accepts."""
    order = sorted(people)
    taken: dict[UUID, int] = {}

    def place(index: int, tried: set[UUID]) -> bool:
        for person in order:
            if person in tried or not people[person].intersection(places[index]):
                continue
            tried.add(person)
            if person not in taken or place(taken[person], tried):
                taken[person] = index
                return True
        return False

    for index in range(len(places)):
        place(index, set())
    return {
        person: min(people[person].intersection(places[index]), key=lambda seat: seat.team)
        for person, index in taken.items()
    }
