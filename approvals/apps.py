"""Application configuration of approvals."""

from __future__ import annotations

from django.apps import AppConfig


class ApprovalsConfig(AppConfig):
    """Name the application; the host binds the ports."""

    name = "approvals"
    default_auto_field = "django.db.models.BigAutoField"
