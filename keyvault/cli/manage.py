"""`keyvault manage [--data DIR] COMMAND ...`: a Django command in this installation."""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli import handover
from keyvault.launcher.sentences import Stop


def run(argv: Sequence[str]) -> int:
    """Become the Django command. Raises Stop."""
    data, rest = handover.split_data(argv)
    if not rest:
        raise Stop("manage takes the name of a Django command, for example: manage check", code=2)
    return handover.to_django(rest, data=data)
