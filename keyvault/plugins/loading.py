"""Which plug-ins of one kind this installation knows: the built-in ones and the allowed ones.

A plug-in is code that runs beside unsealed secrets. It is therefore loaded
only when the settings name its distribution (`KEYVAULT_ALLOWED_PLUGINS`), never
because it happens to be installed, and no page can add one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Generic, TypeVar

_P = TypeVar("_P")


class UnknownKind(LookupError):
    """No plug-in of this kind is loaded."""


class BadPlugin(RuntimeError):
    """A plug-in that the settings allow cannot be used; the start stops with this sentence."""


@dataclass(frozen=True, slots=True)
class Registered(Generic[_P]):
    """One loaded plug-in with the name and version of its distribution, for the ledger."""

    plugin: _P
    distribution: str
    version: str

    @property
    def label(self) -> str:
        """The distribution and its version as one word."""
        return f"{self.distribution} {self.version}".strip()


@dataclass(slots=True)
class Registry(Generic[_P]):
    """The plug-ins of one entry point group. `noun` is what its messages call one of them."""

    group: str
    noun: str
    built_in: Sequence[Callable[[], _P]]
    kind_of: Callable[[_P], str]
    _loaded: dict[str, Registered[_P]] = field(default_factory=dict)

    def load(self, *, allowed: Collection[str], found: Iterable[EntryPoint] = ()) -> None:
        """Load the built-in ones and each plug-in whose distribution is in `allowed`.

        `found` replaces the installed entry points. Raises BadPlugin for one
        that is broken or of a taken kind.
        """
        self._loaded.clear()
        for make in self.built_in:
            self._add(Registered(make(), "keyvault", _own_version()))
        for point in list(found or entry_points(group=self.group)):
            name, point_version = distribution(point)
            if name in allowed:
                self._add(Registered(self._make(point), name, point_version))

    def get(self, kind: str) -> Registered[_P]:
        """Return a plug-in together with where it came from. Raises UnknownKind."""
        found = self.kinds()
        if kind not in found:
            raise UnknownKind(f"No {self.noun} of the kind {kind!r} is loaded.")
        return found[kind]

    def kinds(self) -> Mapping[str, Registered[_P]]:
        """Return every loaded plug-in by kind, in the order of registration."""
        if not self._loaded:
            self.load(allowed=())
        return dict(self._loaded)

    def _add(self, entry: Registered[_P]) -> None:
        kind = self.kind_of(entry.plugin)
        if kind in self._loaded:
            raise BadPlugin(f"{entry.label} and {self._loaded[kind].label} both provide {kind!r}.")
        self._loaded[kind] = entry

    def _make(self, point: EntryPoint) -> _P:
        try:
            made: _P = point.load()()
        except Exception as error:  # A plug-in may fail in any way while it is imported.
            raise BadPlugin(f"The plug-in {point.value} does not load: {error!r}.") from error
        return made


def require_installed(allowed: Collection[str], points: Iterable[EntryPoint]) -> None:
    """Raise BadPlugin when a distribution that the settings allow brings none of `points`."""
    missing = set(allowed) - {distribution(point)[0] for point in points}
    if missing:
        raise BadPlugin(f"Allowed plug-ins are not installed: {', '.join(sorted(missing))}.")


def distribution(point: EntryPoint) -> tuple[str, str]:
    """Return the name and version of the distribution that brings an entry point."""
    return (point.dist.name, point.dist.version) if point.dist else ("", "")


def _own_version() -> str:
    try:
        return version("keyvault")
    except PackageNotFoundError:
        # A source tree that was never installed has no metadata.
        return ""
