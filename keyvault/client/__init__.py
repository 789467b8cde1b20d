"""The client of agents: `Client` for ordinary programs, `AsyncClient` for those with an event loop.

Knows no Django and, but for AsyncClient and signed assertions, nothing outside
the standard library. Both are loaded when they are first named, so that a
command that talks to nobody starts without them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyvault.client.answers import BadIdentity, NotGranted, Refused
    from keyvault.client.awaiting import AsyncClient
    from keyvault.client.blocking import Client
    from keyvault.client.calls import Away
    from keyvault.client.leases import Lease
    from keyvault.client.settings import BadSettings
    from keyvault.client.values import Value

__all__ = [
    "AsyncClient",
    "Away",
    "BadIdentity",
    "BadSettings",
    "Client",
    "Lease",
    "NotGranted",
    "Refused",
    "Value",
]

_HOMES = {
    "AsyncClient": "awaiting",
    "Away": "calls",
    "BadIdentity": "answers",
    "BadSettings": "settings",
    "Client": "blocking",
    "Lease": "leases",
    "NotGranted": "answers",
    "Refused": "answers",
    "Value": "values",
}


def __getattr__(name: str) -> object:
    """Load one public name from its module (PEP 562). Raises AttributeError."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - only when something is named

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
