"""The plug-ins behind Connections: providers, which issue keys, and destinations, which take values.

A Connection names its plug-in by kind alone, so that no kind may be both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from keyvault.destinations import registry as destinations
from keyvault.destinations.base import Destination
from keyvault.plugins.loading import BadPlugin, Registered
from keyvault.providers import registry as providers
from keyvault.providers.base import Provider

Plugin = Provider | Destination


def kinds() -> Mapping[str, Registered[Provider] | Registered[Destination]]:
    """Return every loaded plug-in by kind, providers first."""
    return {**providers.kinds(), **destinations.kinds()}


def registered(kind: str) -> Registered[Provider] | Registered[Destination]:
    """Return a plug-in together with where it came from. Raises UnknownKind."""
    return destinations.registered(kind) if is_destination(kind) else providers.registered(kind)


def is_destination(kind: str) -> bool:
    """Say whether values are pushed to Connections of a kind; False for one that is not loaded."""
    return kind in destinations.kinds()


def destination_kinds() -> Iterable[str]:
    """Return the kinds of which no key is issued."""
    return destinations.kinds().keys()


def require_disjoint() -> None:
    """Raise BadPlugin where a provider and a destination go by the same kind."""
    for kind in sorted(providers.kinds().keys() & destinations.kinds().keys()):
        both = f"{providers.registered(kind).label} and {destinations.registered(kind).label}"
        raise BadPlugin(f"{both} both provide {kind!r}, one as a provider, one as a destination.")
