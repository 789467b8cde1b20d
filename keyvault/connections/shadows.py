"""Shadow keys: credentials at a provider that no key of ours answers for.

Each look at a provider writes the list anew. It grants nothing and ends
nothing: a person who knows the value asks to have one adopted.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from keyvault.connections.models import Connection, ShadowKey
from keyvault.providers.base import RemoteKey

# A page shows no more; `Connection.foreign_count` tells of all.
MOST = 200


class NotSeen(LookupError):
    """The last look at a provider saw no credential with this id that is not a key already."""


def shadows(connection_id: UUID) -> Sequence[ShadowKey]:
    """Return the shadow keys of a Connection, those that were seen first last."""
    return list(ShadowKey.objects.filter(connection_id=connection_id))


def get(*, connection_id: UUID, remote_id: str) -> ShadowKey:
    """Return one shadow key by the provider's id. Raises NotSeen."""
    found = ShadowKey.objects.filter(connection_id=connection_id, remote_id=remote_id).first()
    if found is None:
        raise NotSeen(remote_id)
    return found


def by_id(shadow_id: UUID) -> ShadowKey | None:
    """Return one shadow key with its Connection, or None."""
    return ShadowKey.objects.select_related("connection").filter(pk=shadow_id).first()


def forget(*, connection_id: UUID, remote_id: str) -> None:
    """Take a credential off the list that has become a key, in the caller's transaction."""
    ShadowKey.objects.filter(connection_id=connection_id, remote_id=remote_id).delete()


def note(*, connection: Connection, foreign: Sequence[RemoteKey], now: datetime) -> None:
    """Make the list say what a look has seen, in the caller's transaction."""
    seen = {key.remote_id: key for key in foreign}
    kept = dict(sorted(seen.items())[:MOST])
    ShadowKey.objects.filter(connection=connection).exclude(remote_id__in=kept).delete()
    ShadowKey.objects.bulk_create(
        [
            ShadowKey(
                connection=connection,
                remote_id=remote_id,
                remote=key.to_json(),
                made_at=key.created_at,
                used_at=key.last_used_at,
                first_seen_at=now,
            )
            for remote_id, key in kept.items()
        ],
        update_conflicts=True,
        unique_fields=["connection", "remote_id"],
        update_fields=["remote", "made_at", "used_at"],
    )
