"""The destination for services on this host that read their variables from a file."""

from __future__ import annotations

from keyvault.destinations.env_file.destination import EnvFile

__all__ = ["EnvFile"]
