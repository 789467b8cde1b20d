"""What a test run of a Connection would do: its settings, what is left afterwards, whom it could disturb."""

from __future__ import annotations

from collections.abc import Mapping

from keyvault.actions import key_plan, new_key
from keyvault.connections import minting, selectors
from keyvault.connections.models import Connection
from keyvault.inventory import selectors as inventory
from keyvault.inventory.models import Key
from keyvault.providers.base import Capabilities, Misconfigured, Recovery, Shape

# Proposed settings are those of a key of this name, so that each test run takes the same accounts.
NAME = "keyvault-test"


class BadOptions(Exception):
    """The settings cannot be tried; `errors` says for each field what is wrong and the mend."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = dict(errors)


def completed(connection: Connection, typed: Mapping[str, str]) -> dict[str, str]:
    """Return the settings with what the provider proposes for those that were left empty.

    Raises BadOptions, also where they are those of a key.
    """
    proposed = selectors.proposed_options(connection, NAME)
    options = {name: text for name, text in {**proposed, **typed}.items() if text}
    if errors := new_key.option_faults(connection, options):
        raise BadOptions(errors)
    if refusal := taken(connection, options):
        raise BadOptions({"options": refusal})
    return options


def taken(connection: Connection, options: Mapping[str, str]) -> str:
    """Return why these settings would take the place of a key at this server, or nothing.

    Raises Misconfigured on settings that cannot work there.
    """
    wanted = _places(connection, options)
    there = [row.pk for row in selectors.at_same_server(connection)] if wanted else []
    for key in inventory.reserving_at(there):
        if wanted.intersection(_places_of(key)):
            named = ", ".join(sorted(wanted))
            return (
                f"The key {key.name} has its place there already ({named}). Choose other settings, "
                "so that no test run takes it."
            )
    return ""


def breaks(connection: Connection, options: Mapping[str, str]) -> tuple[str, ...]:
    """Return what approvers should know of the effect on others, and of what is left."""
    lines = ["Nothing that is in use: no key of the inventory is touched."]
    can = selectors.capabilities(connection)
    if can is not None and can.shape is Shape.SLOTS:
        accounts = " or ".join(key_plan.foreseen(connection, options))
        lines.append(
            f"{accounts} is left there, without a password and without the right to log in."
        )
    if minting.mints(connection):
        lines.append("If its answer is lost, the credential works until it ends by itself.")
    return tuple(lines)


def _places_of(key: Key) -> frozenset[str]:
    try:
        return _places(key.connection, key.options)
    except Misconfigured:
        # Its settings work no more, and name nothing.
        return frozenset()


def _places(connection: Connection, options: Mapping[str, str]) -> frozenset[str]:
    """Return what only one key can have: its accounts, or the settings on which a limit rests."""
    if accounts := key_plan.foreseen(connection, options):
        return frozenset(accounts)
    can = selectors.capabilities(connection)
    if can is None or not _is_limited(can):
        return frozenset()
    fields = selectors.options_schema(connection.provider)
    needed = [field.name for field in fields if field.required]
    return frozenset({" ".join(options.get(name, "") for name in needed)})


def _is_limited(can: Capabilities) -> bool:
    return can.max_live is not None or can.recovery is Recovery.DIFF
