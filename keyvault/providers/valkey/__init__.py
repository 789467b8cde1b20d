"""Valkey and Redis ACL users: one per credential, whose password the server knows as a hash only."""

from __future__ import annotations

from keyvault.providers.valkey.provider import Valkey

__all__ = ["Valkey"]
