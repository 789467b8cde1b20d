"""An act for tests: its plan follows the world below, and its runs are counted."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from uuid import UUID

from approvals import ports
from approvals.ports import Change, Outcome, Plan, RiskPoint, Subject


@dataclass
class World:
    """What the act's plan depends on, and what its runs left behind."""

    colour: str = "grey"
    ran: list[UUID] = field(default_factory=list)
    closed: list[tuple[UUID, str]] = field(default_factory=list)
    fault: Exception | None = None
    owners: frozenset[UUID] = frozenset()
    watchers: frozenset[UUID] = frozenset()
    rendered: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


world = World()


def fresh_world() -> World:
    """Forget what earlier tests did."""
    for name, value in vars(World()).items():
        setattr(world, name, value)
    return world


@ports.register
@dataclass(frozen=True)
class Paint:
    """Paint a wall."""

    kind = "test.paint"
    title = "Paint a wall"

    wall: str = "north"
    colour: str = "green"
    environment: str = "prod"
    team: str = "payments"

    def to_payload(self):
        return {
            "wall": self.wall,
            "colour": self.colour,
            "environment": self.environment,
            "team": self.team,
        }

    @classmethod
    def from_payload(cls, payload):
        return cls(**payload)

    def attributes(self):
        return {
            "environment": frozenset({self.environment}),
            "team": frozenset({self.team} if self.team else ()),
        }

    def people(self, role):
        if role == "owner_team":
            found = ports.directory().members([self.team])
            return frozenset(member.person_id for member in found)
        return world.owners

    def visible_to(self, person_id):
        return person_id in world.watchers

    def describe(self):
        with world.lock:
            world.rendered += 1
        return Plan(
            title=f"Paint {self.wall}",
            sentence=f"Paint the {self.wall} wall {self.colour}.",
            target=Subject("wall", self.wall, self.wall),
            fingerprint="",
            changes=(Change("Colour", world.colour, self.colour),),
            body={"colour": self.colour},
            breaks=("The wall is wet for an hour.",),
            undo="Paint it again.",
        )

    def risk(self):
        return [RiskPoint(30, "It is a wall", "Seen today"), RiskPoint(-5, "It is old", "1970")]

    def execute(self, *, request_id, run):
        if world.fault is not None:
            raise world.fault
        run.fence()
        with world.lock:
            world.ran.append(request_id)
        return Outcome("The wall is painted.", {"wall": self.wall})

    def closed(self, *, request_id, state, now):
        assert now
        world.closed.append((request_id, state))
