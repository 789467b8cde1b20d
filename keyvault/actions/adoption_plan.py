"""Word the plan of an adoption: every line that approvers read before values move in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from approvals.ports import Change
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys, key_plan, new_key
from keyvault.actions.new_adoption import Adopted
from keyvault.inventory import calendars
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import DeliveryMode

NO_ID = "id there not known: ended by a person"
_SHOWN = 16
_P = ParamSpec("_P")
_T = TypeVar("_T")


def once(read: Callable[_P, _T]) -> Callable[_P, _T]:
    """Return `read` with a memory of its own: 200 keys share few teams and Connections.

    Kept for one reading of a request, never longer: the rows may change.
    """
    kept: dict[object, _T] = {}

    def remembered(*args: _P.args, **named: _P.kwargs) -> _T:
        asked = (args, tuple(sorted(named.items())))
        if asked not in kept:
            kept[asked] = read(*args, **named)
        return kept[asked]

    return remembered


def title(keys: Sequence[Adopted]) -> str:
    """Return the title of the request."""
    return f"Adopt {keys[0].declared.name}" if len(keys) == 1 else f"Adopt {len(keys)} keys"


def sentence(keys: Sequence[Adopted], *, owner: User) -> str:
    """Return in one sentence what is asked."""
    places = sorted({new_key.connection(one.declared.connection).title for one in keys})
    what = f"the key {keys[0].declared.name}" if len(keys) == 1 else f"{len(keys)} keys"
    verb = "exists" if len(keys) == 1 else "exist"
    return (
        f"Take {what} that {verb} already at {', '.join(places)} into the inventory for {owner}. "
        "Nothing is changed there."
    )


def changes(keys: Sequence[Adopted], *, owner: User) -> tuple[Change, ...]:
    """Return whose the keys become, where they are valid, and a row for each of them."""
    where = {one.declared.connection for one in keys}
    return (
        Change("Owner", "", str(owner)),
        *(_connection(slug) for slug in sorted(where)),
        *map(_Rows(), keys),
    )


def breaks() -> tuple[str, ...]:
    """Return what the adoption could disturb."""
    return (
        "Nothing that works today changes: whoever uses these values goes on using them.",
        "Whoever has had a value keeps it until the key is rotated.",
    )


def _connection(slug: str) -> Change:
    where = new_key.connection(slug)
    return Change(f"Server of {where.title}", "", key_plan.server(where) or about_keys.NONE)


class _Rows:
    """Word the rows of the keys, and read what they share once."""

    def __init__(self) -> None:
        self._connection, self._environment = once(new_key.connection), once(new_key.environment)
        self._team, self._person = once(people.team_by_slug), once(people.user)

    def __call__(self, one: Adopted) -> Change:
        """Return the row of one key: all that execution obeys, on a line each."""
        declared = one.declared
        where = self._connection(declared.connection)
        slug, warning = about_keys.environment_line(self._environment(declared.environment))
        backup = self._person(declared.backup_owner) if declared.backup_owner else None
        lines = (
            f"{where.title}, {slug}, {self._team(declared.team)}",
            f"for: {declared.purpose}",
            *_use(declared),
            f"backup owner: {backup}" if backup else "nobody stands in",
            f"value {one.fingerprint[:_SHOWN]}",
            f"id there: {one.remote_id}" if one.remote_id else NO_ID,
        )
        return Change(declared.name, "", lines, warning)


def _use(declared: Declaration) -> tuple[str, ...]:
    return (
        str(DeliveryMode(declared.delivery_mode).label),
        f"lives {about_keys.days(declared.lifetime_days)} from its adoption",
        f"new value {calendars.words(declared.cadence_days, declared.calendar)}",
        f"{declared.volume_per_day:,} calls a day",
        f"hosts: {', '.join(declared.allowed_hosts) or 'any'}",
        *(["reads text from outside"] if declared.external_input else []),
        *([f"labels: {', '.join(declared.labels)}"] if declared.labels else []),
        *(f"{name}: {text}" for name, text in sorted(declared.options.items())),
    )
