"""What many keys have in common: where they are, what policies can tell apart, how a plan names them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from approvals import selectors as requests
from approvals.ports import Change
from keyvault.actions import about_keys

if TYPE_CHECKING:
    from approvals.models import Request
    from keyvault.connections.models import Connection
    from keyvault.inventory.models import Key

JSON = Any
CHANGE, ROTATE = "key.change_many", "key.rotate_many"


def asked(key_id: UUID) -> list[Request]:
    """Return the open requests about many keys that this one is among, newest first of each kind.

    The caller passes each row's gate.
    """
    return changing(key_id) + requests.open_with(ROTATE, key_ids__contains=[str(key_id)])


def changing(key_id: UUID) -> list[Request]:
    """Return those that would change it. The caller passes each row's gate."""
    # A list holds another one when it holds its members, in any order and with more to them.
    return requests.open_with(CHANGE, uses__contains=[{"key_id": str(key_id)}])


def sort(key: Key) -> tuple[object, ...]:
    """Return all of a key that policies can tell apart, so that like keys are looked at once."""
    labels = tuple(sorted(key.labels))
    return (key.environment_id, key.connection_id, key.team_id, labels, key.lifetime_days)


def by_team_and_owner(keys: Iterable[Key]) -> list[Key]:
    """Return one key of each pair of team and owner."""
    return list({(key.team_id, key.owner_id): key for key in keys}.values())


def by_connection(keys: Iterable[Key]) -> dict[Connection, list[Key]]:
    """Return the keys by their Connections, in the order of those."""
    found: dict[Connection, list[Key]] = defaultdict(list)
    for key in keys:
        found[key.connection].append(key)
    return dict(sorted(found.items(), key=lambda item: item[0].slug))


def servers(places: Iterable[Connection]) -> dict[str, JSON]:
    """Return the part of a plan's body that names where each Connection leads."""
    return {str(where.pk): about_keys.server(where) for where in places}


def environments(keys: Iterable[Key]) -> list[Change]:
    """Return the row of a plan that names the environments, with a warning on a protected one."""
    found = {key.environment.slug: key.environment for key in keys}
    names = tuple(sorted(found))
    warning = "Protected" if any(one.protected for one in found.values()) else ""
    return [Change("Environments", names, names, warning)]


def places(found: Mapping[Connection, object]) -> str:
    """Return where the keys are, in words."""
    titles = [where.title for where in found]
    return titles[0] if len(titles) == 1 else f"{len(titles)} Connections"


def count(keys: Sequence[object]) -> str:
    """Return how many keys there are, in words."""
    return "1 key" if len(keys) == 1 else f"{len(keys):,} keys"
