"""Which policy governs an act: the most specific one, and of equals the stricter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from approvals.policy.rules import Auto, BadPolicy, Rules, fold, strictness

MAX_COMBINATIONS = 5_000


class NoPolicy(LookupError):
    """No policy covers this act, so nobody could agree to it: it is refused."""

    def __init__(self, kind: str) -> None:
        super().__init__(
            f"No policy covers {kind}, so nobody could agree to it. "
            "An administrator can add a policy that does."
        )
        self.kind = kind


def match(
    policies: Sequence[Rules], *, kind: str, attributes: Mapping[str, frozenset[str]]
) -> Rules:
    """Return the policy that governs an act of this kind with these attributes.

    An attribute with several values (an environment before and after a change,
    or several labels) is judged value by value: each combination picks its own
    most specific policy, and the strictest of those picks governs. A policy
    that denies wins over all others that match. Raises NoPolicy.

    An act that does another kind of act many times over names that kind among its
    attributes: it is judged as both, so that no policy is passed by asking for many.
    """
    known = {fold(name): frozenset(map(fold, values)) for name, values in attributes.items()}
    known["kind"] = known.get("kind", frozenset()) | {fold(kind)}
    named = {name for policy in policies for name in policy.scope}
    picks = [
        _most_specific(policies, combination, kind) for combination in _combinations(known, named)
    ]
    return max(picks, key=_rank)


def covers(scope: Mapping[str, frozenset[str]], values: Mapping[str, str]) -> bool:
    """Say whether every name in a scope has one of the listed values."""
    return all(values.get(name) in allowed for name, allowed in scope.items())


def _combinations(
    attributes: Mapping[str, frozenset[str]], named: set[str]
) -> Iterator[dict[str, str]]:
    relevant = {name: sorted(values) for name, values in attributes.items() if name in named}
    filled = {name: values for name, values in relevant.items() if values}
    size = 1
    for values in filled.values():
        size *= len(values)
    if size > MAX_COMBINATIONS:
        raise BadPolicy("This act has too many attributes for policies to match on; split it.")
    for choice in product(*filled.values()):
        yield dict(zip(filled, choice, strict=True))


def _most_specific(policies: Sequence[Rules], values: Mapping[str, str], kind: str) -> Rules:
    fitting = [policy for policy in policies if covers(policy.scope, values)]
    if not fitting:
        raise NoPolicy(kind)
    denying = [policy for policy in fitting if policy.auto == Auto.DENY]
    return max(denying or fitting, key=lambda policy: (len(policy.scope), *_rank(policy)))


def _rank(policy: Rules) -> tuple[tuple[int, ...], str]:
    """Order by strictness; the name only makes the choice certain among equals."""
    return strictness(policy), policy.name
