"""Where a command line begins to sign a person in (RFC 8628 section 3.1)."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from keyvault.accounts import gates, origin
from keyvault.agents import device_flow
from keyvault.api.forms import BUSY, Form, Problem, documents

_RETRY_S = 60


@gates.machine
@csrf_exempt
@require_POST
@documents
def begin(request: HttpRequest, form: Form) -> HttpResponse:
    """Give both codes and the page where a person types the short one."""
    try:
        begun = device_flow.begin(
            client_name=form.get("client_name", ""), ip=origin.address(request), now=timezone.now()
        )
    except device_flow.TooMany:
        raise Problem(
            BUSY,
            "Too many sign-ins are under way from there. They lapse within ten minutes.",
            status=429,
            retry_after_s=_RETRY_S,
        ) from None
    body = {
        "device_code": begun.device_code.reveal().decode(),
        "user_code": begun.user_code,
        # No address that carries the code: whoever follows a link has not seen what it is for.
        "verification_uri": settings.PUBLIC_URL + reverse("device"),
        "expires_in": int(device_flow.LIFETIME.total_seconds()),
        "interval": begun.login.interval_s,
    }
    return JsonResponse(body, headers={"Cache-Control": "no-store"})


urlpatterns = [path("device", begin, name="oauth-device")]
