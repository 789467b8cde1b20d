"""Word the plan of a new key: every line that approvers read before a credential exists."""

from __future__ import annotations

from collections.abc import Mapping

from approvals.ports import Change
from keyvault.accounts.models import User
from keyvault.actions import about_keys
from keyvault.connections import minting
from keyvault.connections.context import guard_of
from keyvault.connections.models import Connection
from keyvault.inventory import calendars
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import DeliveryMode, Environment
from keyvault.plugins import context
from keyvault.providers import registry
from keyvault.providers.base import Field, Foresees


def foreseen(connection: Connection, options: Mapping[str, str]) -> tuple[str, ...]:
    """Return the accounts that a key will have at the provider, as far as it can tell.

    Raises Misconfigured on settings of the key that cannot work there.
    """
    provider = registry.provider(connection.provider)
    if not isinstance(provider, Foresees):
        return ()
    without_credential = context.call(
        guard_of(connection.allowed_hosts),
        timeout_s=0,
        config=connection.config,
        options=options,
        admin={},
    )
    return tuple(provider.foresee(without_credential))


def changes(
    declared: Declaration,
    *,
    connection: Connection,
    environment: Environment,
    owner: User,
    backup: User | None,
    team: str,
) -> tuple[Change, ...]:
    """Return the rows of the plan; nothing exists yet, so the middle column is empty."""
    slug, warning = about_keys.environment_line(environment)
    return (
        *place(connection, declared.options),
        Change("Environment", "", slug, warning),
        Change("Owner", "", str(owner)),
        Change("Backup owner", "", str(backup) if backup else about_keys.NONE, _alone(backup)),
        Change("Team", "", team),
        *_use(declared, is_lent=minting.mints(connection)),
    )


def effect(connection: Connection) -> str:
    """Return what a new key there changes at once."""
    if minting.mints(connection):
        return (
            "Nothing exists at the provider before an agent takes a lease; each ends after its run."
        )
    return "Nothing that works today changes: a new credential is added."


def server(connection: Connection) -> tuple[str, ...]:
    """Return what a Connection reaches, setting by setting; the credential is no part of it."""
    fields = registry.provider(connection.provider).config_schema
    return tuple(
        f"{field.label}: {connection.config[field.name]}"
        for field in fields
        if _is_shown(field) and connection.config.get(field.name)
    )


def place(connection: Connection, options: Mapping[str, str]) -> list[Change]:
    """Return the rows of a plan that say where a credential is made, and with which settings."""
    provider = registry.provider(connection.provider)
    rows = [
        Change("Provider", "", provider.title),
        Change("Connection", "", f"{connection.title} ({connection.slug})"),
        Change("Server", "", server(connection)),
    ]
    if names := foreseen(connection, options):
        rows.append(Change("Accounts made there", "", names))
    rows += [
        Change(field.label, "", options[field.name])
        for field in provider.options_schema
        if options.get(field.name)
    ]
    return rows


def _use(declared: Declaration, *, is_lent: bool) -> tuple[Change, ...]:
    hosts = declared.allowed_hosts
    outside = "Reads text from outside" if declared.external_input else ""
    return (
        Change("Allowed hosts", "", hosts or "any", "" if hosts else "Any host"),
        Change("Calls a day", "", f"{declared.volume_per_day:,}"),
        Change("Outside text", "", "yes" if declared.external_input else "no", outside),
        Change("Lifetime", "", f"{about_keys.days(declared.lifetime_days)} from its creation"),
        _value(declared, is_lent=is_lent),
        Change("Delivery", "", str(DeliveryMode(declared.delivery_mode).label)),
        Change("Labels", "", declared.labels or about_keys.NONE),
    )


def _value(declared: Declaration, *, is_lent: bool) -> Change:
    if is_lent:
        return Change("Value", "", "none is kept: each run of an agent gets one of its own")
    return Change("Value changes", "", calendars.words(declared.cadence_days, declared.calendar))


def _alone(backup: User | None) -> str:
    return "" if backup else "Nobody stands in"


def _is_shown(field: Field) -> bool:
    return field.kind not in {"secret", "longtext"}
