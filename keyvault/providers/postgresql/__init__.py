"""PostgreSQL login roles: two slots per key, used in turn, in one owner role."""

from __future__ import annotations

from keyvault.providers.postgresql.provider import PostgreSQL

__all__ = ["PostgreSQL"]
