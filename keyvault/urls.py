"""Every address of the console; each view names its gate."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("keyvault.web.health")),
    path("", include("keyvault.web.urls_frame")),
    path("", include("keyvault.web.urls_keys")),
    path("", include("keyvault.web.urls_agents")),
    path("", include("keyvault.web.trusts")),
    path("", include("keyvault.web.connections")),
    path("", include("keyvault.web.renewals")),
    path("", include("keyvault.web.trials")),
    path("", include("approvals.urls")),
    path("", include("keyvault.web.signin")),
    path("", include("keyvault.web.setup")),
    path("", include("keyvault.web.invitations")),
    path("", include("keyvault.web.account")),
    path("", include("keyvault.web.people")),
    path("", include("keyvault.web.audit")),
    path("", include("keyvault.web.device")),
    path("api/v1/oauth/", include("keyvault.api.oauth")),
    path("api/v1/oauth/", include("keyvault.api.device")),
    path(".well-known/", include("keyvault.api.well_known")),
    # Its last line answers for everything else under /api/, so it stands after the others.
    path("", include("keyvault.api.urls")),
]

handler400 = "keyvault.web.errors.bad_request"
handler403 = "keyvault.web.errors.forbidden"
handler404 = "keyvault.web.errors.not_found"
handler500 = "keyvault.web.errors.broken"
