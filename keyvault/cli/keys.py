"""`keyvault keys`: the public keys that a verifier pins, from the running installation."""

from __future__ import annotations

from collections.abc import Sequence

from keyvault.cli import handover


def run(argv: Sequence[str]) -> int:
    """Become the Django command that prints them. Raises Stop when nothing was ever started."""
    data, rest = handover.split_data(argv)
    return handover.to_django(["public_keys", *rest], data=data)
