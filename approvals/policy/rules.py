"""What one policy says, as plain values that are read from JSON and written back."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from uuid import UUID

JSON = Any


class BadPolicy(ValueError):
    """The wording of a policy makes no sense; the message says the mend."""


class Auto(StrEnum):
    """What a policy does without asking anybody."""

    NONE = ""
    APPROVE = "approve"
    DENY = "deny"


def fold(text: str) -> str:
    """Return the form in which names are compared: NFKC, case folded, stripped."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()


@dataclass(frozen=True, slots=True)
class Stage:
    """One group of approvers that must agree. Stores rules, not people.

    groups: slugs; a member who joined before submission is eligible.
    roles: names that the host resolves ("owner", "owner_team").
    fallback: groups that may stand in; they count as eligible like `groups`.
    """

    name: str
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    people: tuple[UUID, ...] = ()
    fallback: tuple[str, ...] = ()
    quorum: int = 1
    deny_quorum: int = 1

    def __post_init__(self) -> None:
        if not (self.groups or self.roles or self.people or self.fallback):
            raise BadPolicy(f"Stage {self.name} names nobody: add a group, a role or a person.")
        if min(self.quorum, self.deny_quorum) < 1:
            raise BadPolicy(f"Stage {self.name} needs quorums of at least 1.")

    @property
    def all_groups(self) -> tuple[str, ...]:
        """Return groups and fallback groups."""
        return self.groups + self.fallback


@dataclass(frozen=True, slots=True)
class Rules:
    """One policy version.

    scope: attribute name to the values it covers; all names must match.
    exclude: host roles that never decide. step_back: host roles that decide only
    where the quorum cannot be filled without them.
    solo: groups whose members may act alone, and only while the installation is solo.
    ttl_s: how long a request waits for decisions. freshness_s: how soon an
    approved plan must start. factor_age_s: the oldest second factor that counts.
    """

    name: str
    scope: Mapping[str, frozenset[str]] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    ordered: bool = False
    different_teams: bool = False
    exclude: frozenset[str] = frozenset()
    step_back: frozenset[str] = frozenset()
    solo: tuple[str, ...] = ()
    auto: Auto = Auto.NONE
    comment_on_approve: bool = False
    comment_on_reject: bool = True
    reason_required: bool = True
    ticket_pattern: str = ""
    ttl_s: int = 24 * 3600
    freshness_s: int = 24 * 3600
    factor_age_s: int = 300

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise BadPolicy("A policy needs a name.")
        if self.auto == Auto.NONE and not self.stages:
            raise BadPolicy(f"Policy {self.name} has no stage: nobody would be asked.")
        if min(self.ttl_s, self.freshness_s, self.factor_age_s) < 1:
            raise BadPolicy(f"Policy {self.name} needs times of at least one second.")

    @property
    def quorum(self) -> int:
        """Return how many people must approve in all."""
        return sum(stage.quorum for stage in self.stages)

    @property
    def groups(self) -> frozenset[str]:
        """Return every group that this policy names."""
        named = {group for stage in self.stages for group in stage.all_groups}
        return frozenset(named | set(self.solo))

    @property
    def roles(self) -> frozenset[str]:
        """Return every role that the host must resolve."""
        named = {role for stage in self.stages for role in stage.roles}
        return frozenset(named | self.exclude | self.step_back)

    def to_json(self) -> dict[str, JSON]:
        """Return the policy as JSON values; `from_json` reads it back."""
        return {
            "name": self.name,
            "scope": {name: sorted(values) for name, values in sorted(self.scope.items())},
            "stages": [_stage_json(stage) for stage in self.stages],
            "ordered": self.ordered,
            "different_teams": self.different_teams,
            "exclude": sorted(self.exclude),
            "step_back": sorted(self.step_back),
            "solo": list(self.solo),
            "auto": self.auto.value,
            "comment_on_approve": self.comment_on_approve,
            "comment_on_reject": self.comment_on_reject,
            "reason_required": self.reason_required,
            "ticket_pattern": self.ticket_pattern,
            "ttl_s": self.ttl_s,
            "freshness_s": self.freshness_s,
            "factor_age_s": self.factor_age_s,
        }

    @classmethod
    def from_json(cls, body: Mapping[str, JSON]) -> Rules:
        """Read a policy. Raises BadPolicy on an unknown field or a value that makes no sense."""
        unknown = set(body) - set(cls.__dataclass_fields__)
        if unknown:
            raise BadPolicy(f"Unknown fields in a policy: {', '.join(sorted(unknown))}.")
        plain = dict(body)
        try:
            return cls(
                **plain
                | {
                    "scope": {
                        fold(name): frozenset(map(fold, values))
                        for name, values in plain.get("scope", {}).items()
                    },
                    "stages": tuple(_stage(part) for part in plain.get("stages", ())),
                    "exclude": frozenset(plain.get("exclude", ())),
                    "step_back": frozenset(plain.get("step_back", ())),
                    "solo": tuple(plain.get("solo", ())),
                    "auto": Auto(plain.get("auto", "")),
                }
            )
        except (TypeError, AttributeError) as error:
            raise BadPolicy(f"A policy field has the wrong shape: {error}") from error


def strictness(rules: Rules) -> tuple[int, ...]:
    """Return what orders policies from lax to strict: deny, ask nobody, then whom and how."""
    auto = {Auto.APPROVE: 0, Auto.NONE: 1, Auto.DENY: 2}[rules.auto]
    return (
        auto,
        rules.quorum,
        len(rules.stages),
        int(rules.different_teams),
        int(rules.ordered),
        len(rules.exclude),
        len(rules.step_back),
        -len(rules.solo),
        -min((stage.deny_quorum for stage in rules.stages), default=1),
        int(rules.comment_on_approve) + int(rules.comment_on_reject) + int(rules.reason_required),
        int(bool(rules.ticket_pattern)),
        -rules.factor_age_s,
        -rules.freshness_s,
        -rules.ttl_s,
    )


def _stage(body: Mapping[str, JSON]) -> Stage:
    unknown = set(body) - set(Stage.__dataclass_fields__)
    if unknown:
        raise BadPolicy(f"Unknown fields in a stage: {', '.join(sorted(unknown))}.")
    return Stage(
        name=body.get("name", ""),
        groups=tuple(body.get("groups", ())),
        roles=tuple(body.get("roles", ())),
        people=tuple(UUID(str(person)) for person in body.get("people", ())),
        fallback=tuple(body.get("fallback", ())),
        quorum=body.get("quorum", 1),
        deny_quorum=body.get("deny_quorum", 1),
    )


def _stage_json(stage: Stage) -> dict[str, JSON]:
    return {
        "name": stage.name,
        "groups": list(stage.groups),
        "roles": list(stage.roles),
        "people": [str(person) for person in stage.people],
        "fallback": list(stage.fallback),
        "quorum": stage.quorum,
        "deny_quorum": stage.deny_quorum,
    }
