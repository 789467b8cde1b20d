"""`keyvault doctor`: say in sentences what is wrong with this installation and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli import handover


def run(argv: Sequence[str]) -> int:
    """Become the Django command that looks. Raises Stop when nothing was ever started."""
    data, rest = handover.split_data(argv)
    return handover.to_django(["doctor", *rest], data=data)
