"""`keyvault audit verify|export|search|read`: the ledger of the running installation."""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli import handover
from keyvault.launcher.sentences import Stop

COMMANDS = {
    "verify": "audit_verify",
    "export": "audit_export",
    "search": "audit_search",
    "read": "audit_read",
}


def run(argv: Sequence[str]) -> int:
    """Become the Django command that does it. Raises Stop."""
    data, rest = handover.split_data(argv)
    if not rest or rest[0] not in COMMANDS:
        raise Stop(
            "audit takes verify, export, search or read. See: keyvault audit verify --help", code=2
        )
    return handover.to_django([COMMANDS[rest[0]], *rest[1:]], data=data)
