"""Stop the recovery of an administrator while it waits."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from approvals import ports, queue
from keyvault.accounts import gates, selectors, sessions
from keyvault.actions import recover_administrator


@gates.role_required("administrators")
@require_POST
def cancel(request: HttpRequest, person_id: UUID) -> HttpResponse:
    """Cancel after a fresh code; whoever the recovery is for may cancel it, too."""
    concerned = selectors.user(person_id)
    proof = ports.presence().ask(
        request,
        title="Cancel the recovery",
        sentence=f"The second factor of {concerned} stays as it is. The host may ask again.",
        digest=recover_administrator.digest(person_id),
    )
    if isinstance(proof, HttpResponse):
        return proof
    try:
        recover_administrator.cancel(
            person_id=person_id, by=sessions.person(request), proof_id=proof.id, now=timezone.now()
        )
    except queue.NotOpen as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, f"The recovery of {concerned} is cancelled.")
    return redirect(reverse("system"))
