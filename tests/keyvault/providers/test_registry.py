"""Which providers are loaded is decided by the settings alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from keyvault.plugins import loading
from keyvault.providers import registry
from keyvault.providers.manual import Manual


class Custom(Manual):
    kind = "custom"


@dataclass
class Distribution:
    name: str
    version: str = "1.2"


@dataclass
class Point:
    """Stands in for an installed entry point."""

    dist: Distribution
    made: object
    value: str = "some_package:Provider"

    def load(self):
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    registry.load(allowed=())


def test_built_in_providers_are_always_there():
    assert set(registry.kinds()) == {
        "postgresql",
        "valkey",
        "mariadb",
        "rabbitmq",
        "aws_iam",
        "openai",
        "anthropic",
        "cloudflare",
        "github_app",
        "http",
        "manual",
    }
    assert registry.provider("manual").kind == "manual"


def test_r42_an_installed_plugin_stays_unloaded_until_the_settings_name_it():
    point = Point(Distribution("kv-custom"), Custom)
    registry.load(allowed=(), found=[point])
    with pytest.raises(registry.UnknownKind):
        registry.provider("custom")
    registry.load(allowed=("kv-custom",), found=[point])
    assert registry.registered("custom").label == "kv-custom 1.2"


@pytest.mark.parametrize(
    ("allowed", "made", "words"),
    [
        ("kv-custom", ImportError("no such thing"), "does not load"),
        ("kv-custom", Manual, "both provide 'manual'"),
    ],
)
def test_an_allowed_plugin_that_cannot_be_used_stops_the_start(allowed, made, words):
    with pytest.raises(registry.BadPlugin, match=words):
        registry.load(allowed=(allowed,), found=[Point(Distribution("kv-custom"), made)])


def test_an_allowed_plugin_that_is_not_installed_stops_the_start():
    points = [Point(Distribution("kv-custom"), Custom)]
    loading.require_installed(("kv-custom",), points)
    with pytest.raises(registry.BadPlugin, match="not installed: kv-absent"):
        loading.require_installed(("kv-custom", "kv-absent"), points)
