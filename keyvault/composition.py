"""Join the parts once Django is up: ports, actions, job handlers and the keyring."""

from __future__ import annotations


def compose() -> None:
    """Bind approvals' ports, register every action and job handler, load the keyring."""
