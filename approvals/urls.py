"""Addresses of the approvals pages; the host includes them at its root."""

from __future__ import annotations

from django.urls import path

from approvals.views import deciding, detail, lists

urlpatterns = [
    path("approvals/", lists.queue, name="approvals"),
    path("approvals/<uuid:request_id>/", detail.detail, name="request"),
    path("approvals/<uuid:request_id>/decide/", deciding.decide, name="request-decide"),
    path("approvals/<uuid:request_id>/withdraw/", deciding.withdraw, name="request-withdraw"),
    path("approvals/<uuid:request_id>/renew/", deciding.renew, name="request-renew"),
    path("approvals/<uuid:request_id>/comments/", deciding.comment, name="request-comment"),
    path(
        "approvals/<uuid:request_id>/receipts/<uuid:decision_id>/",
        deciding.receipt,
        name="request-receipt",
    ),
    path("requests/", lists.mine, name="requests"),
]
