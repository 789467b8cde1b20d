"""The destinations that an installation has without any plug-in."""

from __future__ import annotations

import pytest

from keyvault.destinations import registry


@pytest.mark.parametrize("kind", ["kubernetes", "github_actions", "webhook"])
def test_it_is_built_in_and_its_forms_tell_servers_apart(kind):
    plugin = registry.destination(kind)
    assert plugin.kind == kind
    assert [field.name for field in plugin.config_schema if field.names_server]
    assert registry.registered(kind).distribution == "keyvault"
