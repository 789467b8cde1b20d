"""Which destinations are loaded, and where files may be written, is decided by the settings alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from keyvault.destinations import registry


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    registry.load(allowed=())


def test_the_roots_reach_the_env_file_destination():
    assert registry.destination("env_file").roots == ()
    registry.load(allowed=(), file_roots=["/srv/keys"])
    assert registry.destination("env_file").roots == ("/srv/keys",)
    registry.load(allowed=())
    assert registry.destination("env_file").roots == ()


def test_an_unknown_kind_is_named():
    with pytest.raises(registry.UnknownKind, match="destination of the kind 'fax'"):
        registry.destination("fax")
