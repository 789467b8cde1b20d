"""Decide, withdraw, send again, comment: each is one POST and one domain call."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from approvals import digests, ports, receipts, selectors, services
from approvals.forms import CommentForm, DecideForm
from approvals.gates import SIGNED_IN, gated
from approvals.selectors import diffs, history
from approvals.services.deciding import check_comment, decided_alike, may_decide
from approvals.views import detail
from approvals.views.people import person

if TYPE_CHECKING:
    from approvals.models import Request

VERBS = {"approve": "You approve", "reject": "You reject", "changes": "You ask for changes to"}
DONE = {
    "approved": "{label}: approved. It runs now.",
    "pending": "Your decision on {label} is recorded. More people must decide.",
    "rejected": "{label}: rejected. Nothing will be done.",
    "changes_asked": "{label} went back to {asker} with your note.",
}


@gated(SIGNED_IN)
@require_POST
def decide(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Record a decision after a fresh second factor; a replay shows what stands already."""
    now = timezone.now()
    row = selectors.access_request(person(request), request_id)
    form = DecideForm(request.POST)
    if not form.is_valid():
        return detail.page(request, row, now=now, form=form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        return _decide(request, row, form, now=now)
    except services.BadText as bad:
        form.add_error(bad.field, bad.sentence)
        return detail.page(request, row, now=now, form=form, status=HTTPStatus.UNPROCESSABLE_ENTITY)
    except services.NotEligible as refused:
        return detail.page(
            request, row, now=now, refusal=refused.sentence, status=HTTPStatus.FORBIDDEN
        )
    except ports.NotPresent as absent:
        return detail.page(
            request, row, now=now, form=form, refusal=str(absent), status=HTTPStatus.CONFLICT
        )
    except (services.Stale, services.Closed) as moved:
        return _conflict(request, moved.request, form, now=now)


def _decide(request: HttpRequest, row: Request, form: DecideForm, *, now: datetime) -> HttpResponse:
    """Check what can be checked before a code is spent, ask for the code, decide."""
    posted, decider = form.cleaned_data, person(request)
    verdict, digest = posted["verdict"], posted["plan_digest"]
    if decided_alike(row, decider, verdict=verdict, plan_digest=digest):
        return redirect("request", row.pk)
    ballot = may_decide(row, decider, plan_digest=digest, now=now)
    check_comment(ballot.rules, verdict, posted["comment"])
    proof = ports.presence().ask(
        request,
        title=f"Sign your decision on {row.label}",
        sentence=f"{VERBS[verdict]} {row.label}: {row.plan['sentence']}",
        digest=digests.decide_digest(request_id=row.pk, plan_digest=digest, verdict=verdict),
    )
    if not isinstance(proof, ports.Proof):
        # A twin of this very POST may have used the code up and recorded the decision.
        if decided_alike(row, decider, verdict=verdict, plan_digest=digest):
            return redirect("request", row.pk)
        return proof
    decision = services.decide(
        request_id=row.pk,
        person=decider,
        verdict=verdict,
        plan_digest=digest,
        proof_id=proof.id,
        comment=posted["comment"],
        seen=detail.seen(posted["seen"]),
        now=now,
    )
    state = decision.receipt["state_after"]
    messages.success(request, DONE[state].format(label=row.label, asker=row.requester_label))
    return redirect("request", row.pk)


def _conflict(
    request: HttpRequest, row: Request, form: DecideForm, *, now: datetime
) -> HttpResponse:
    """Show the new state beside the one that was on screen, and keep the note."""
    posted = form.cleaned_data
    before = history.revision_of(row, posted["plan_digest"])
    context = detail.context_of(row, person(request), now=now)
    context |= {
        "form": DecideForm(),
        "note": posted["comment"],
        "before": before,
        "moved": diffs.changes(before.plan, row.plan) if before else (),
        "is_same_revision": bool(before and before.number == row.revision),
    }
    return render(request, "approvals/conflict.html", context, status=HTTPStatus.CONFLICT)


@gated(SIGNED_IN)
@require_POST
def withdraw(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Take a request back."""
    now = timezone.now()
    try:
        row = services.withdraw(request_id=request_id, person=person(request), now=now)
    except services.NotEligible as refused:
        row = selectors.access_request(person(request), request_id)
        return detail.page(
            request, row, now=now, refusal=refused.sentence, status=HTTPStatus.FORBIDDEN
        )
    except services.Closed as closed:
        return detail.page(
            request, closed.request, now=now, refusal=str(closed), status=HTTPStatus.CONFLICT
        )
    messages.success(request, f"{row.label} is withdrawn. Nothing was done.")
    return redirect("request", row.pk)


@gated(SIGNED_IN)
@require_POST
def renew(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Send a request again with the plan as it stands now."""
    now = timezone.now()
    try:
        row = services.renew(request_id=request_id, person=person(request), now=now)
    except services.Closed as closed:
        return detail.page(
            request, closed.request, now=now, refusal=str(closed), status=HTTPStatus.CONFLICT
        )
    messages.success(request, f"{row.label} is revision {row.revision} now and waits again.")
    return redirect("request", row.pk)


@gated(SIGNED_IN)
@require_POST
def comment(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Add a remark that decides nothing."""
    now = timezone.now()
    row = services.access_comment(person(request), request_id)
    form = CommentForm(request.POST)
    if not form.is_valid():
        return detail.page(
            request, row, now=now, comments=form, status=HTTPStatus.UNPROCESSABLE_ENTITY
        )
    services.comment(
        request_id=row.pk, person=person(request), text=form.cleaned_data["text"], now=now
    )
    return redirect("request", row.pk)


@gated(SIGNED_IN)
@require_GET
def receipt(request: HttpRequest, request_id: UUID, decision_id: UUID) -> HttpResponse:
    """Download the signed receipt of one decision; `keyvault verify` checks it offline."""
    row = selectors.access_request(person(request), request_id)
    found = history.decision(row, decision_id)
    document = receipts.document(found, material=history.material_of(found))
    response = JsonResponse(document, json_dumps_params={"indent": 2, "ensure_ascii": False})
    response["Content-Disposition"] = f'attachment; filename="{row.label}-{found.verdict}.json"'
    return response
