"""The destination for secrets of OpenBao and Vault, in a KV engine of version 2."""

from __future__ import annotations

from keyvault.destinations.openbao.destination import OpenBao

__all__ = ["OpenBao"]
