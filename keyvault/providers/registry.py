"""Which providers this installation knows: the built-in ones and the allowed plug-ins.

A plug-in is code that runs beside unsealed secrets. It is therefore loaded
only when the settings name its distribution (`KEYVAULT_ALLOWED_PLUGINS`), never
because it happens to be installed, and no page can add one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import TYPE_CHECKING

from keyvault.providers.manual import Manual
from keyvault.providers.postgresql import PostgreSQL
from keyvault.providers.valkey import Valkey

if TYPE_CHECKING:
    from keyvault.providers.base import Provider

GROUP = "keyvault.providers"
BUILT_IN: tuple[Callable[[], Provider], ...] = (PostgreSQL, Valkey, Manual)


class UnknownKind(LookupError):
    """No provider of this kind is loaded."""


class BadPlugin(RuntimeError):
    """A plug-in that the settings allow cannot be used; the start stops with this sentence."""


@dataclass(frozen=True, slots=True)
class Registered:
    """One loaded provider with the name and version of its distribution, for the ledger."""

    provider: Provider
    distribution: str
    version: str

    @property
    def label(self) -> str:
        """The distribution and its version as one word."""
        return f"{self.distribution} {self.version}".strip()


_loaded: dict[str, Registered] = {}


def load(*, allowed: Collection[str], found: Iterable[EntryPoint] = ()) -> None:
    """Load the built-in providers and each plug-in whose distribution is in `allowed`.

    `found` replaces the installed entry points. Raises BadPlugin for one that
    is allowed but missing, broken or of a taken kind.
    """
    _loaded.clear()
    for make in BUILT_IN:
        _add(Registered(make(), "keyvault", _own_version()))
    points = list(found or entry_points(group=GROUP))
    missing = set(allowed) - {_distribution(point)[0] for point in points}
    if missing:
        raise BadPlugin(f"Allowed plug-ins are not installed: {', '.join(sorted(missing))}.")
    for point in points:
        name, point_version = _distribution(point)
        if name in allowed:
            _add(Registered(_make(point), name, point_version))


def provider(kind: str) -> Provider:
    """Return the provider of a kind. Raises UnknownKind."""
    return registered(kind).provider


def registered(kind: str) -> Registered:
    """Return a provider together with where it came from. Raises UnknownKind."""
    if not _loaded:
        load(allowed=())
    if kind not in _loaded:
        raise UnknownKind(f"No provider of the kind {kind!r} is loaded.")
    return _loaded[kind]


def kinds() -> Mapping[str, Registered]:
    """Return every loaded provider by kind, in the order of registration."""
    if not _loaded:
        load(allowed=())
    return dict(_loaded)


def _own_version() -> str:
    try:
        return version("keyvault")
    except PackageNotFoundError:
        # A source tree that was never installed has no metadata.
        return ""


def _add(entry: Registered) -> None:
    kind = entry.provider.kind
    if kind in _loaded:
        raise BadPlugin(f"{entry.label} and {_loaded[kind].label} both provide {kind!r}.")
    _loaded[kind] = entry


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("", "")


def _make(point: EntryPoint) -> Provider:
    try:
        made: Provider = point.load()()
    except Exception as error:  # A plug-in may fail in any way while it is imported.
        raise BadPlugin(f"The plug-in {point.value} does not load: {error!r}.") from error
    return made
