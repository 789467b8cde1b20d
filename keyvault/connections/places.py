"""Where a credential was issued, whatever its Connection says by now.

An approved change may lead a Connection to another server. What was issued
before stays where it is: the new server knows nothing of it, so that its "no
such user" proves nothing, and a call there could end a stranger's credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keyvault.connections import kinds
from keyvault.connections.models import Connection

if TYPE_CHECKING:
    from keyvault.vault.models import Version


def server_of(provider: str, config: Mapping[str, object]) -> dict[str, str]:
    """Return what names the server behind settings: the fields that the provider marks.

    Where it marks none, or its plug-in is not loaded, every setting counts: a
    stop too many is better than a call at the wrong server.
    """
    entry = kinds.kinds().get(provider)
    schema = entry.plugin.config_schema if entry else ()
    marked = {field.name: field.default for field in schema if field.names_server}
    naming = marked or dict.fromkeys(config, "")
    found = {name: str(config.get(name) or default) for name, default in naming.items()}
    return {"provider": provider, **{name: text for name, text in found.items() if text}}


def leads_to(connection: Connection) -> dict[str, str]:
    """Return what names the server that a Connection leads to now."""
    return server_of(connection.provider, connection.config)


def is_within_reach(version: Version, connection: Connection) -> bool:
    """Say whether calls through a Connection can name a version: it leads to the server of it.

    A version of which that is not recorded is out of reach, and so is one that was
    adopted without its id at the provider.
    """
    if version.is_nameless:
        return False
    return bool(version.server) and version.server == leads_to(connection)


def id_of(version: Version) -> str:
    """Return what a version is called at the provider, or why nobody here can say."""
    if version.is_nameless:
        return "id not known"
    return version.remote_id or "no id yet"


def named(server: Mapping[str, object]) -> str:
    """Return a server in one word, from what names it or from a Connection's settings."""
    if not server:
        return "a server that was not recorded"
    where = _first(server, "host", "where", "url", "provider")
    port = server.get("port")
    return f"{where}:{port}" if port else where


def _first(server: Mapping[str, object], *names: str) -> str:
    return next((str(server[name]) for name in names if server.get(name)), "")


def out_of_reach(version: Version, connection: Connection) -> str:
    """Return the sentence for a version that no call can end, with the mends."""
    place = named(version.server)
    if version.is_nameless:
        return (
            f"Version {version.number} was adopted without its id at {place}, so no call can end "
            f"it. End it there by hand and confirm on the key's page."
        )
    return (
        f"Version {version.number} was issued at {place}, and {connection.title} leads to "
        f"{named(leads_to(connection))} now. Have the Connection changed back and resume, "
        f"or end {version.remote_id or 'what was begun'} at {place} by hand and confirm on the "
        "key's page."
    )
