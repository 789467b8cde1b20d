"""Which providers this installation knows: the built-in ones and the allowed plug-ins."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from keyvault.plugins.loading import BadPlugin, Registered, Registry, UnknownKind
from keyvault.providers.anthropic import Anthropic
from keyvault.providers.aws_iam import AwsIam
from keyvault.providers.cloudflare import Cloudflare
from keyvault.providers.generic_http import GenericHttp
from keyvault.providers.github_app import GitHubApp
from keyvault.providers.manual import Manual
from keyvault.providers.mariadb import MariaDB
from keyvault.providers.openai import OpenAI
from keyvault.providers.postgresql import PostgreSQL
from keyvault.providers.rabbitmq import RabbitMQ
from keyvault.providers.valkey import Valkey

if TYPE_CHECKING:
    from keyvault.providers.base import Provider

__all__ = ["GROUP", "BadPlugin", "UnknownKind", "kinds", "load", "provider", "registered"]

GROUP = "keyvault.providers"
_registry: Registry[Provider] = Registry(
    GROUP,
    "provider",
    (
        PostgreSQL,
        Valkey,
        MariaDB,
        RabbitMQ,
        AwsIam,
        OpenAI,
        Anthropic,
        Cloudflare,
        GitHubApp,
        GenericHttp,
        Manual,
    ),
    lambda made: made.kind,
)


def load(*, allowed: Collection[str], found: Iterable[EntryPoint] = ()) -> None:
    """Load the built-in providers and the allowed plug-ins. Raises BadPlugin."""
    _registry.load(allowed=allowed, found=found)


def provider(kind: str) -> Provider:
    """Return the provider of a kind. Raises UnknownKind."""
    return registered(kind).plugin


def registered(kind: str) -> Registered[Provider]:
    """Return a provider together with where it came from. Raises UnknownKind."""
    return _registry.get(kind)


def kinds() -> Mapping[str, Registered[Provider]]:
    """Return every loaded provider by kind, in the order of registration."""
    return _registry.kinds()
