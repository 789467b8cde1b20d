"""MariaDB accounts: one per credential, with the rights of an existing role."""

from __future__ import annotations

from keyvault.providers.mariadb.provider import MariaDB

__all__ = ["MariaDB"]
