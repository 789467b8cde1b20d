"""Gather the packages' models for Django; nobody else imports this module."""

from __future__ import annotations

from keyvault.inventory import models as inventory  # noqa: F401
