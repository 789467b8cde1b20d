"""End a lease from the page of its key or of its agent, after a fresh code."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from approvals import ports
from keyvault.accounts import gates, sessions
from keyvault.agents import selectors as agents
from keyvault.leases import withdrawing


@gates.signed_in
@require_POST
def end(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """Have the credential of a lease ended at its provider."""
    person = sessions.person(request)
    found = withdrawing.access_lease(person, lease_id)
    proof = ports.presence().ask(
        request,
        sentence=f"End the lease of {found.key.name} that {found.agent.name} holds, now.",
        digest=withdrawing.digest(found),
        title="End the lease",
    )
    if isinstance(proof, HttpResponse):
        return proof
    row = withdrawing.withdraw(
        person=person, lease_id=lease_id, proof_id=proof.id, now=timezone.now()
    )
    state = row.get_state_display().lower()
    messages.success(
        request,
        f"The lease of {row.key.name} that {row.agent.name} held is {state}. It may take another "
        "one as long as it has the right.",
    )
    if request.POST.get("at") == "agent" and agents.names_seen(person, [row.agent_id]):
        return redirect(reverse("agent", args=[row.agent.name]))
    return redirect(reverse("key-leases", args=[row.key.name]))
