"""Tell a client where everything is, so that it needs one address only: the console's."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from keyvault.accounts import gates


@gates.public
@require_safe
def keyvault(_request: HttpRequest) -> HttpResponse:
    """Return the addresses; they come from the settings, never from the request (R40)."""
    api = f"{settings.PUBLIC_URL}/api/v1"
    return JsonResponse(
        {
            "console": settings.PUBLIC_URL,
            "api": api,
            "token_endpoint": f"{api}/oauth/token",
            "device_authorization_endpoint": f"{api}/oauth/device",
            "gateway": settings.GATEWAY_URL,
        }
    )


urlpatterns = [path("keyvault", keyvault, name="well-known")]
