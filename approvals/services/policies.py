"""Keep policies: every saved wording stays, and open requests meet the stricter one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import connection

from approvals import ports
from approvals.models import Policy, PolicyVersion, Request
from approvals.policy import matching
from approvals.policy.rules import Rules, strictness
from approvals.selectors import deciders
from approvals.services import asking, states

JSON = Any

_SEED_LOCK = 7_203_511  # Any number does; it is shared by nobody else.


def seed_policies(specs: Iterable[Mapping[str, JSON]], now: datetime) -> int:
    """Create the default policies that do not exist yet; return how many were new.

    Never touches a policy that exists: an edit made by approval must survive
    the next start. Runs inside the caller's transaction. Raises BadPolicy.
    """
    states.assert_in_transaction()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SEED_LOCK])
    known = set(Policy.objects.values_list("name", flat=True))
    fresh = [rules for rules in map(Rules.from_json, specs) if rules.name not in known]
    for rules in fresh:
        _save(rules, actor=states.POLICY, now=now)
    if fresh:
        _judge_again(now)
    return len(fresh)


def save_policy(*, rules: Rules, actor: ports.Actor, now: datetime) -> PolicyVersion:
    """Save a new version of a policy, inside the caller's transaction.

    Undecided requests that another wording governs from now on, of this policy
    or of one that fits them better, are judged again under the stricter of old
    and new, with their decisions cleared. Saving the wording that is in force
    already changes nothing.
    """
    states.assert_in_transaction()
    version, is_new = _save(rules, actor=actor, now=now)
    if is_new:
        _judge_again(now)
    return version


def _save(rules: Rules, *, actor: ports.Actor, now: datetime) -> tuple[PolicyVersion, bool]:
    """Return the version of a policy that says this, and whether it had to be made."""
    policy, _ = Policy.objects.select_for_update().get_or_create(name=rules.name)
    last = policy.versions.order_by("-number").first()
    if last is not None and last.body == rules.to_json():
        return last, False
    version = PolicyVersion.objects.create(
        policy=policy,
        number=last.number + 1 if last else 1,
        body=rules.to_json(),
        saved_at=now,
        saved_by={"kind": actor.kind, "id": actor.id, "label": actor.label},
    )
    ports.recorder().record(
        "policy.saved",
        actor=actor,
        subject=ports.Subject("policy", str(policy.pk), policy.name),
        now=now,
        fields={"name": policy.name, "version": version.number},
    )
    return version, True


def _judge_again(now: datetime) -> None:
    """Move undecided requests to what governs them now where that is at least as strict.

    All are looked at, whatever policy they stand under: a new policy, or a
    wider scope of an old one, may fit a request better than its own.
    """
    current = {row.body["name"]: row for row in deciders.current_policies()}
    policies = [Rules.from_json(row.body) for row in current.values()]
    undecided = Request.objects.filter(state__in=Request.UNDECIDED)
    for request_id in undecided.order_by("pk").values_list("pk", flat=True):
        request = states.lock(request_id)
        if request.state not in Request.UNDECIDED:
            continue
        rules = _governing(request, policies)
        old = Rules.from_json(request.policy_version.body)
        if rules is None or current[rules.name].pk == request.policy_version_id:
            continue
        if strictness(rules) >= strictness(old):
            asking.rebind(request, version=current[rules.name], now=now)


def _governing(request: Request, policies: Sequence[Rules]) -> Rules | None:
    """Return what governs a request as it was submitted; None where nothing does any more."""
    attributes = {name: frozenset(values) for name, values in request.attributes.items()}
    try:
        return matching.match(policies, kind=request.kind, attributes=attributes)
    except matching.NoPolicy:
        return None
