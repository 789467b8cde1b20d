"""A ledger that signs."""

from tests.keyvault.audit.conftest import signer

__all__ = ["signer"]  # Fixtures are found by name here.
