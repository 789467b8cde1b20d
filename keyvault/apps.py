"""Composition: everything that joins approvals, the packages of keyvault and the queue."""

from __future__ import annotations

from django.apps import AppConfig


class KeyvaultConfig(AppConfig):
    """Bind the ports, register the actions and load the keyring once Django is up."""

    name = "keyvault"
    verbose_name = "keyvault"

    def ready(self) -> None:
        """Join the parts. A missing key-encryption key is a sealed start, not a crash."""
        from keyvault import composition  # The packages' models exist only from here on.

        composition.compose()
