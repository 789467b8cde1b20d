"""Read Connections. Nothing here opens a credential."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet

from approvals.ports import NotVisible
from keyvault.accounts.models import User
from keyvault.connections import kinds, places
from keyvault.connections.context import guard_of
from keyvault.connections.models import Act, Attempt, AttemptState, Connection
from keyvault.destinations import registry as registry_of_destinations
from keyvault.destinations.base import DestinationCapabilities
from keyvault.plugins import context
from keyvault.providers import registry
from keyvault.providers.base import (
    Capabilities,
    Context,
    Field,
    HoldsOne,
    Problem,
    Proposes,
    Shape,
    Verified,
)
from keyvault.vault import selectors as versions

if TYPE_CHECKING:
    from keyvault.vault.models import Version

# What the one secret part of a credential is called where its provider does not say.
VALUE = "value"


def get(slug: str) -> Connection:
    """Return one Connection by its name. Raises NotVisible."""
    found = _all().filter(slug=slug).first()
    if found is None:
        raise NotVisible(slug)
    return found


def by_id(connection_id: UUID) -> Connection:
    """Return one Connection. Raises NotVisible."""
    found = _all().filter(pk=connection_id).first()
    if found is None:
        raise NotVisible(str(connection_id))
    return found


def exists(slug: str) -> bool:
    """Say whether the name is taken."""
    return Connection.objects.filter(slug=slug).exists()


def connections() -> Sequence[Connection]:
    """Return every Connection with `live_count`, the number of keys that live there."""
    return list(counted().order_by("slug"))


def counted() -> QuerySet[Connection]:
    """Return every Connection with `live_count`, under its slug as `name`, as lists walk them."""
    alive = Count("keys", filter=Q(keys__state__in=["live", "suspended"]))
    return _all().annotate(live_count=alive, name=F("slug"))


def at_same_server(connection: Connection) -> Sequence[Connection]:
    """Return the Connections that lead where this one does, itself among them."""
    server = places.leads_to(connection)
    rows = _all().filter(provider=connection.provider)
    return [row for row in rows if places.leads_to(row) == server]


def choices(person: User) -> Sequence[Connection]:
    """Return the Connections at which a person may ask for a key: all whose provider is loaded.

    Names and titles only are shown to whoever asks; servers and credentials are
    not. Asking grants nothing, since every key goes through approval.
    """
    if not person.is_active:
        return []
    return [row for row in _all().order_by("title") if row.provider in registry.kinds()]


def live_key_count(connection_id: UUID) -> int:
    """Return how many keys live at a Connection."""
    alive = Q(keys__state__in=["live", "suspended"])
    return Connection.objects.filter(Q(pk=connection_id) & alive).count()


def problems(connection: Connection) -> list[Problem]:
    """Return what the last check found."""
    return [Problem.from_json(entry) for entry in connection.problems]


def capabilities(connection: Connection) -> Capabilities | None:
    """Return what the provider can do here, or None when its plug-in is not loaded."""
    try:
        provider = registry.provider(connection.provider)
    except registry.UnknownKind:
        return None
    return provider.capabilities(bare_call(connection))


def destination_capabilities(connection: Connection) -> DestinationCapabilities | None:
    """Return what a destination can do here, or None where nothing is pushed to or not loaded."""
    try:
        destination = registry_of_destinations.destination(connection.provider)
    except registry.UnknownKind:
        return None
    return destination.capabilities(bare_call(connection))


def target_schema(kind: str) -> Sequence[Field]:
    """Return the fields of one place at such a destination. Raises UnknownKind."""
    return registry_of_destinations.destination(kind).target_schema


def destination_choices(person: User) -> Sequence[Connection]:
    """Return the destinations at which a person may ask to have a key laid, as `choices` does."""
    if not person.is_active:
        return []
    return list(_all().filter(provider__in=kinds.destination_kinds()).order_by("title"))


def is_unverified(connection: Connection) -> bool:
    """Say whether the plug-in was tested on a fake alone, never on the vendor's own server."""
    try:
        plugin = kinds.registered(connection.provider).plugin
    except registry.UnknownKind:
        return False
    return isinstance(plugin, Verified) and plugin.verified_by == "fake"


def renewed_by_hand(ids: Collection[UUID]) -> frozenset[UUID]:
    """Return those of some Connections where a person makes every new value.

    A Connection whose plug-in is not loaded is among them: nothing is renewed there by itself.
    """
    found = {row.pk: capabilities(row) for row in Connection.objects.filter(pk__in=ids)}
    return frozenset(pk for pk, can in found.items() if can is None or can.shape == Shape.MANUAL)


def bare_call(connection: Connection) -> Context:
    """Return a context without a credential and without time: for questions that need no call."""
    return context.call(
        guard_of(connection.allowed_hosts),
        timeout_s=0,
        config=connection.config,
        options={},
        admin={},
    )


def providers() -> Sequence[tuple[str, str]]:
    """Return kind and title of every loaded provider."""
    return [(kind, entry.plugin.title) for kind, entry in registry.kinds().items()]


def destinations() -> Sequence[tuple[str, str]]:
    """Return kind and title of every loaded destination."""
    return [(kind, entry.plugin.title) for kind, entry in registry_of_destinations.kinds().items()]


def titles() -> Mapping[str, str]:
    """Return the title of every loaded provider and destination by kind."""
    return {kind: entry.plugin.title for kind, entry in kinds.kinds().items()}


def config_schema(kind: str) -> Sequence[Field]:
    """Return the fields of a Connection's settings. Raises UnknownKind."""
    return kinds.registered(kind).plugin.config_schema


def credential_schema(kind: str) -> Sequence[Field]:
    """Return the fields of a Connection's admin credential. Raises UnknownKind."""
    return kinds.registered(kind).plugin.material_schema


def options_schema(kind: str) -> Sequence[Field]:
    """Return the fields of one key at such a Connection. Raises registry.UnknownKind."""
    return registry.provider(kind).options_schema


def value_field(kind: str) -> str:
    """Return the name of the one secret part of such a credential. Raises registry.UnknownKind."""
    provider = registry.provider(kind)
    return provider.value_field if isinstance(provider, HoldsOne) else VALUE


def takes_listed(kind: str) -> bool:
    """Say whether a credential that is listed there can be adopted with its id.

    Raises registry.UnknownKind.
    """
    provider = registry.provider(kind)
    return isinstance(provider, HoldsOne) and provider.takes_listed


def proposed_options(connection: Connection, name: str) -> Mapping[str, str]:
    """Return what fills the settings of a key of this name that nobody typed.

    Raises registry.UnknownKind.
    """
    provider = registry.provider(connection.provider)
    if not isinstance(provider, Proposes):
        return {}
    return provider.propose(connection.config, name)


def open_attempts(key_id: UUID) -> Sequence[Attempt]:
    """Return what may be changing at the provider for one key, newest first."""
    return list(Attempt.objects.filter(key_id=key_id, state=AttemptState.OPEN))


def awaits_intake(key_id: UUID) -> bool:
    """Say whether a person must paste the value of this key."""
    return _by_hand(key_id, Act.CREATE)


def awaits_confirmation(key_id: UUID) -> bool:
    """Say whether a person must confirm that this key was revoked by hand."""
    return _by_hand(key_id, Act.REVOKE)


def left_behind(attempt: Attempt) -> Version | None:
    """Return the version that an attempt is to revoke, where no call can reach it; or None."""
    if attempt.act != Act.REVOKE:
        return None
    version = versions.version(attempt.version_id)
    return None if places.is_within_reach(version, attempt.connection) else version


def is_by_hand(attempt: Attempt) -> bool:
    """Say whether an attempt waits for a person: by its nature, or out of reach by now."""
    found = capabilities(attempt.connection)
    if found is None:
        return False
    if left_behind(attempt) is not None:
        return True
    return found.shape is Shape.MANUAL if attempt.act == Act.CREATE else found.is_all_by_hand


def _by_hand(key_id: UUID, act: Act) -> bool:
    rows = Attempt.objects.select_related("connection").filter(
        key_id=key_id, act=act, state=AttemptState.OPEN, confirmed_by=""
    )
    row = rows.first()
    return row is not None and is_by_hand(row)


def _all() -> QuerySet[Connection]:
    return Connection.objects.select_related("environment", "team")
