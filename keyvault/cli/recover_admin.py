"""`keyvault recover-admin NAME`: the way back in for an administrator without a second factor."""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli import handover


def run(argv: Sequence[str]) -> int:
    """Become the Django command. Raises Stop when nothing was ever started."""
    data, rest = handover.split_data(argv)
    return handover.to_django(["recover_admin", *rest], data=data)
