"""Valkey and Redis ACL users: several passwords per user, known to the server as hashes only."""

from __future__ import annotations

from keyvault.providers.valkey.provider import Valkey

__all__ = ["Valkey"]
