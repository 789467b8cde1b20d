"""Submit a request and revise it: render the plan, bind it to a digest, pick the policy."""

from __future__ import annotations

import re
import secrets
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection, transaction

from approvals import digests, ports, queue
from approvals.models import PolicyVersion, Request, Revision
from approvals.policy.rules import Auto, Rules
from approvals.selectors import access_request, ballots, deciders
from approvals.selectors.ballots import BEHIND
from approvals.services import states
from approvals.services.states import BadText, Closed, check_text

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

JSON = Any


class Denied(Exception):
    """A policy forbids this act outright; nobody can approve it."""


def submit(
    *,
    action: ports.Action,
    requester: AbstractBaseUser,
    reason: str,
    now: datetime,
    ticket: str = "",
    asked_by: ports.Actor | None = None,
) -> Request:
    """Put an action up for approval, inside the caller's transaction.

    asked_by: a machine that asks on the requester's behalf. Whoever answers for
    it can then not decide, and neither can the requester.

    Raises matching.NoPolicy when no policy covers it, Denied when one forbids
    it, BadText on a missing reason or a ticket of the wrong form.
    """
    states.assert_in_transaction()
    version = deciders.governing(action)
    rules = _admit(version, reason=reason, ticket=ticket)
    request = Request(
        number=_next_number(),
        kind=action.kind,
        requester_id=requester.pk,
        requester_label=ports.directory().actor(requester.pk).label,
        **_asker(asked_by),
        created_at=now,
        reason=reason.strip(),
        ticket=ticket.strip(),
    )
    _word(request, action, version=version, now=now)
    request.roles = _roles(request, action, rules, now=now)
    request.save(force_insert=True)
    author = asked_by or ports.directory().actor(requester.pk)
    _keep_revision(request, cause="submitted", author=author, now=now)
    _record_submitted(request, rules, now=now)
    _route(request, rules, now=now)
    return request


def revise(
    *,
    request_id: UUID,
    action: ports.Action,
    person: AbstractBaseUser,
    now: datetime,
    reason: str | None = None,
    ticket: str | None = None,
) -> Request:
    """Replace the plan of an undecided request; every earlier decision is cleared.

    Runs inside the caller's transaction. A fresh nonce makes the digest differ
    even where the plan does not. Raises NotVisible unless the person asked for
    it, Closed once it is decided, and what `submit` raises.
    """
    access_request(person, request_id)
    request = states.lock(request_id)
    if request.requester_id != person.pk or request.kind != action.kind:
        raise ports.NotVisible(f"request {request_id}")
    if request.state not in Request.UNDECIDED:
        raise Closed(request)
    before = (request.subject_id, request.attributes)
    request.reason = request.reason if reason is None else reason.strip()
    request.ticket = request.ticket if ticket is None else ticket.strip()
    version = deciders.governing(action)
    rules = _admit(version, reason=request.reason, ticket=request.ticket)
    request.revision += 1
    request.state = Request.State.PENDING
    _word(request, action, version=version, now=now)
    if (request.subject_id, request.attributes) != before or not set(request.roles) - {BEHIND}:
        request.roles = _roles(request, action, rules, now=now)
    request.save()
    author = ports.directory().actor(person.pk)
    _keep_revision(request, cause="edited", author=author, now=now)
    _record_revised(request, actor=author, cause="edited", now=now)
    _route(request, rules, now=now)
    return request


def renew(
    *,
    request_id: UUID,
    person: AbstractBaseUser,
    now: datetime,
    reason: str | None = None,
    ticket: str | None = None,
) -> Request:
    """Send an undecided request again with its plan as the world stands now.

    The mend when the world has moved under a request, or when a better reason
    or ticket is known. Raises what `revise` raises.
    """
    with transaction.atomic(durable=True):
        request = access_request(person, request_id)
        action = ballots.action_of(request)
        return revise(
            request_id=request_id,
            action=action,
            person=person,
            now=now,
            reason=reason,
            ticket=ticket,
        )


def rebind(request: Request, *, version: PolicyVersion, now: datetime) -> None:
    """Judge an undecided, locked request under another policy version; decisions are cleared."""
    request.revision += 1
    _word(request, ballots.action_of(request), version=version, now=now)
    request.save()
    _keep_revision(request, cause="policy", author=states.POLICY, now=now)
    _record_revised(request, actor=states.POLICY, cause="policy", now=now)


def material(request: Request) -> dict[str, JSON]:
    """Return all that the stored request is bound to, as it is covered by its digest."""
    return digests.plan_material(
        kind=request.kind,
        payload=request.payload,
        plan=request.plan,
        requester_id=request.requester_id,
        policy_id=request.policy_version.policy_id,
        policy_version=request.policy_version.number,
        nonce=request.nonce,
        reason=request.reason,
        ticket=request.ticket,
        asked_by=asdict(request.asked_by) if request.asked_by else None,
    )


def _admit(version: PolicyVersion, *, reason: str, ticket: str) -> Rules:
    """Return the rules once they let this request in at all."""
    rules = Rules.from_json(version.body)
    if rules.auto == Auto.DENY:
        raise Denied(deciders.denial(rules))
    check_text("reason", reason, is_needed=rules.reason_required, name="A reason")
    check_text("ticket", ticket, is_needed=bool(rules.ticket_pattern), name="A ticket")
    if rules.ticket_pattern and not re.fullmatch(rules.ticket_pattern, ticket.strip()):
        raise BadText("ticket", f"The ticket must look like {rules.ticket_pattern}.")
    return rules


def _word(request: Request, action: ports.Action, *, version: PolicyVersion, now: datetime) -> None:
    """Fill a request from its action: plan, digest, risk, subject and times."""
    plan, points = action.describe(), tuple(action.risk())
    request.policy_version = version
    request.payload, request.plan = action.to_payload(), plan.to_json()
    request.nonce = secrets.token_hex(16)
    request.plan_digest = digests.plan_digest(material(request))
    request.attributes = {
        name: sorted(values) for name, values in sorted(action.attributes().items())
    }
    request.risk = [
        {"points": p.points, "title": p.title, "evidence": p.evidence, "link": p.link}
        for p in points
    ]
    request.risk_score = deciders.score(points)
    request.subject_kind, request.subject_id = plan.target.kind, plan.target.id
    request.subject_label = plan.target.label
    request.revised_at = now
    request.expires_at = now + timedelta(seconds=version.body["ttl_s"])


def _roles(
    request: Request, action: ports.Action, rules: Rules, *, now: datetime
) -> dict[str, list[str]]:
    """Return who holds the host's roles at this moment, and who answers for the machine that asks.

    Whoever has answered for it at an earlier revision stays.
    """
    facts = ballots.gather(
        rules,
        requester_id=request.requester_id,
        submitted_at=now,
        attributes=request.attributes,
        roles=ballots.roles_of(action, rules),
        roles_then=None,
        now=now,
        asked_by=request.asked_by,
    )
    held = {role: sorted(map(str, people)) for role, people in facts.roles.items()}
    behind = set(map(str, facts.behind)) | set(request.roles.get(BEHIND, ()))
    return held | {BEHIND: sorted(behind)} if behind else held


def _route(request: Request, rules: Rules, *, now: datetime) -> None:
    """Send the request to its approvers, or approve it at once where policy says so."""
    if rules.auto != Auto.APPROVE:
        queue.enqueue(kind=states.TELL, subject_id=request.pk)
        return
    states.move(request, Request.State.APPROVED, decided_at=now)
    states.record(
        "request.decided",
        request,
        actor=states.POLICY,
        now=now,
        fields={
            "verdict": "approve",
            "plan_digest": request.plan_digest,
            "revision": request.revision,
            "method": "policy",
            "state": Request.State.APPROVED.value,
        },
    )
    queue.enqueue(kind=states.EXECUTE, subject_id=request.pk)


def _asker(asked_by: ports.Actor | None) -> dict[str, str]:
    """Return the columns that keep the machine that asked."""
    if asked_by is None:
        return {}
    return {
        "asked_by_kind": asked_by.kind,
        "asked_by_id": asked_by.id,
        "asked_by_label": asked_by.label[:200],
    }


def _keep_revision(request: Request, *, cause: str, author: ports.Actor, now: datetime) -> None:
    Revision.objects.create(
        request=request,
        number=request.revision,
        material=material(request),
        plan_digest=request.plan_digest,
        cause=cause,
        author={"kind": author.kind, "id": author.id, "label": author.label},
        created_at=now,
    )


def _record_submitted(request: Request, rules: Rules, *, now: datetime) -> None:
    states.record(
        "request.submitted",
        request,
        actor=request.asked_by or ports.directory().actor(request.requester_id),
        now=now,
        fields={
            "kind": request.kind,
            "plan_digest": request.plan_digest,
            "policy": rules.name,
            "policy_version": request.policy_version.number,
            "revision": request.revision,
        },
    )


def _record_revised(request: Request, *, actor: ports.Actor, cause: str, now: datetime) -> None:
    states.record(
        "request.revised",
        request,
        actor=actor,
        now=now,
        fields={"plan_digest": request.plan_digest, "revision": request.revision, "cause": cause},
    )


def _next_number() -> int:
    """Return the next number of the sequence; a rolled-back request leaves a gap on purpose."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('approvals_request_number')")
        row = cursor.fetchone()
    return int(row[0])
