"""Which destinations this installation knows: the built-in ones and the allowed plug-ins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from keyvault.destinations.aws_secrets import AwsSecrets
from keyvault.destinations.env_file import EnvFile
from keyvault.destinations.github_actions import GitHubActions
from keyvault.destinations.kubernetes import Kubernetes
from keyvault.destinations.openbao import OpenBao
from keyvault.destinations.webhook import Webhook
from keyvault.plugins.loading import BadPlugin, Registered, Registry, UnknownKind

if TYPE_CHECKING:
    from keyvault.destinations.base import Destination

__all__ = ["GROUP", "BadPlugin", "UnknownKind", "destination", "kinds", "load", "registered"]

GROUP = "keyvault.destinations"


def _built_in(file_roots: Iterable[str]) -> Sequence[Callable[[], Destination]]:
    env_file = partial(EnvFile, tuple(file_roots))
    return (env_file, OpenBao, AwsSecrets, Kubernetes, GitHubActions, Webhook)


_registry: Registry[Destination] = Registry(
    GROUP, "destination", _built_in(()), lambda made: made.kind
)


def load(
    *, allowed: Collection[str], found: Iterable[EntryPoint] = (), file_roots: Iterable[str] = ()
) -> None:
    """Load the built-in destinations and the allowed plug-ins. Raises BadPlugin.

    `file_roots`: the directories at or below which files may be written.
    """
    _registry.built_in = _built_in(file_roots)
    _registry.load(allowed=allowed, found=found)


def destination(kind: str) -> Destination:
    """Return the destination of a kind. Raises UnknownKind."""
    return registered(kind).plugin


def registered(kind: str) -> Registered[Destination]:
    """Return a destination together with where it came from. Raises UnknownKind."""
    return _registry.get(kind)


def kinds() -> Mapping[str, Registered[Destination]]:
    """Return every loaded destination by kind, in the order of registration."""
    return _registry.kinds()
