"""Leases: a credential for one run, taken when it begins and returned at its end."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from keyvault.client.answers import BadIdentity, Refused
from keyvault.client.calls import Away, Flow
from keyvault.client.values import Value
from keyvault.crypto.secret import Secret

if TYPE_CHECKING:
    from keyvault.client.core import Core

USUAL_S = 900
# The server waits its turn at the provider, twice ten seconds, and then twenty for its answer.
WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Lease:
    """What is held of a key until `expires_at`. Printing it shows nothing of the value."""

    id: str
    value: Value
    expires_at: datetime


def take(core: Core, name: str, *, ttl_s: int, scopes: Sequence[str]) -> Flow[Lease]:
    """Take a lease of a key. Raises Away, NotGranted, BadIdentity, Refused."""
    body = {"key": name, "ttl_seconds": ttl_s, "scopes": list(scopes)}
    said = yield from core.api("POST", "/leases", body=body, timeout_s=WAIT_S)
    fields = said.get("fields")
    if said.get("key") != name or not isinstance(fields, dict) or not fields:
        raise Away(core.settings.url, "something else than keyvault answers there")
    ends_at = _moment(said, "expires_at")
    value = Value(
        key=name,
        # There are no versions: each lease has a value of its own.
        version=0,
        etag=str(said["id"]),
        secrets={str(part): Secret.of(str(text)) for part, text in fields.items()},
        public={str(part): str(text) for part, text in said.get("public", {}).items()},
        expires_at=_moment(said, "lapses_at"),
        not_after=ends_at,
    )
    return Lease(str(said["id"]), value, ends_at)


def renew(core: Core, lease: Lease, *, ttl_s: int) -> Flow[Lease]:
    """Let a lease last longer, with the same value.

    Raises Refused where a new one has to be taken, and as `take`.
    """
    said = yield from core.api("POST", f"/leases/{lease.id}/renew", body={"ttl_seconds": ttl_s})
    ends_at = _moment(said, "expires_at")
    return replace(lease, value=replace(lease.value, not_after=ends_at), expires_at=ends_at)


def give_back(core: Core, lease: Lease) -> Flow[None]:
    """Return a lease, whose value works no longer. Repeating it is safe. Raises as `take`."""
    yield from core.api("DELETE", f"/leases/{lease.id}", timeout_s=WAIT_S)


@contextmanager
def left_to_lapse(lease: Lease) -> Iterator[None]:
    """Warn where a return fails, in place of failing a run that is over: the lease ends by itself."""
    try:
        yield
    except (Away, BadIdentity, Refused) as error:
        sentence = f"The lease of {lease.value.key} could not be returned, and ends by itself"
        warnings.warn(f"{sentence} at {lease.expires_at:%H:%M:%S} UTC. {error}", stacklevel=2)


def _moment(said: Mapping[str, Any], name: str) -> datetime:
    return datetime.fromisoformat(str(said[name]))
