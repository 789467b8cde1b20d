"""Read keys: lists with an allow-list of filters and keyset pages, and who may do what with one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from approvals.ports import Actor
from keyvault.accounts.models import User
from keyvault.inventory import access, keyset, naming
from keyvault.inventory.keyset import EXACT_COUNT, PAGE_SIZE
from keyvault.inventory.models import (
    DeliveryMode,
    Environment,
    Grant,
    Key,
    KeyPermission,
    KeyState,
)

EXPIRING = timedelta(days=14)
_SALT = "keyvault.inventory.cursor"
_ORDERS = {
    "name": keyset.Order(_SALT),
    "expires": keyset.Order(_SALT, sort="expires", moment="expires_at"),
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list shows. Built by `parse` only, so that no other look-up can be reached."""

    q: str = ""
    state: str = ""
    environment: str = ""
    provider: str = ""
    connection: str = ""
    team: str = ""
    owner: str = ""
    due: str = ""
    label: str = ""
    sort: str = "name"

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Filters:
        """Read the query string of a list. Raises BadFilter on a name or value not listed."""
        return cls(
            **keyset.given(query, names=cls.__dataclass_fields__, closed=_CLOSED, noun="Keys")
        )

    @property
    def active(self) -> tuple[tuple[str, str], ...]:
        """Return the filters that narrow the list, as names and values."""
        values = ((name, getattr(self, name)) for name in self.__dataclass_fields__)
        return tuple((name, value) for name, value in values if value and name != "sort")


_CLOSED: dict[str, frozenset[str]] = {
    "state": frozenset(KeyState.values),
    "owner": frozenset({"me"}),
    "due": frozenset({"expiring", "overdue"}),
    "sort": frozenset(_ORDERS),
}


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of keys. `after` and `before` are cursors, empty at the ends."""

    keys: Sequence[Key]
    after: str
    before: str
    count: int
    is_exact: bool = True


def keys_for(
    person: User, filters: Filters, *, now: datetime, after: str = "", before: str = ""
) -> KeyPage:
    """Return a page of the keys that a person may see. Raises BadFilter on a foreign cursor.

    The count is of visible keys only, and stops at 10,000.
    """
    found = _filtered(access.visible_keys(person), filters, person=person, now=now)
    count, is_exact = keyset.count(found)
    found = found.select_related("environment", "connection", "owner", "team__team")
    page = keyset.cut(found, _ORDERS[filters.sort], size=PAGE_SIZE, after=after, before=before)
    return KeyPage(page.rows, page.after, page.before, count, is_exact)


def keys_after(
    keys: QuerySet[Key],
    filters: Filters,
    *,
    person: User | None,
    now: datetime,
    after: str,
    limit: int,
) -> keyset.Cut[Key]:
    """Return up to `limit` of the given visible keys behind a cursor. Raises BadFilter.

    Programs read lists to their end, so nothing is counted. `person` is None
    for an agent, which owns nothing.
    """
    found = _filtered(keys, filters, person=person, now=now)
    found = found.select_related("environment", "connection", "owner", "backup_owner", "team__team")
    return keyset.cut(found, _ORDERS[filters.sort], size=limit, after=after)


def matching(
    keys: QuerySet[Key], filters: Filters, *, person: User, now: datetime
) -> QuerySet[Key]:
    """Return those of the given keys that a list with these filters would show to a person."""
    return _filtered(keys, filters, person=person, now=now)


def counts(person: User, *, now: datetime) -> dict[str, int]:
    """Return how many visible keys the common filters would show."""
    keys = access.visible_keys(person).order_by()
    chips: dict[str, Filters] = {
        "all": Filters(),
        "mine": Filters(owner="me"),
        "live": Filters(state=KeyState.LIVE),
        "expiring": Filters(due="expiring"),
        "overdue": Filters(due="overdue"),
        "revoked": Filters(state=KeyState.REVOKED),
    }
    return {
        name: _filtered(keys, chip, person=person, now=now)[: EXACT_COUNT + 1].count()
        for name, chip in chips.items()
    }


def environments() -> QuerySet[Environment]:
    """Return every environment."""
    return Environment.objects.all()


def environment(slug: str) -> Environment | None:
    """Return an environment by its slug."""
    return Environment.objects.filter(slug=slug).first()


def is_reserved(name: str) -> bool:
    """Say whether a name in its one form belongs to a key already, visible or not."""
    return Key.objects.filter(name=name, released_at=None).exists()


def reserved_among(names: Collection[str]) -> frozenset[str]:
    """Return those of some names, in their one form, that belong to a key already."""
    taken = Key.objects.filter(name__in=names, released_at=None)
    return frozenset(taken.values_list("name", flat=True))


def by_id(key_id: UUID) -> Key | None:
    """Return a key whatever its state and without a gate; for actions and workers only."""
    keys = Key.objects.select_related(
        "environment", "connection", "owner", "backup_owner", "team__team"
    )
    return keys.filter(pk=key_id).first()


def by_request(request_id: UUID) -> Key | None:
    """Return the key that a request asks for; the caller has passed the request's gate."""
    return Key.objects.filter(request_id=request_id).first()


def reserving_at(connection_ids: Collection[UUID]) -> Sequence[Key]:
    """Return the keys that have, or are to have, something at one of some Connections."""
    rows = Key.objects.filter(connection_id__in=connection_ids, released_at=None)
    return list(rows.exclude(state=KeyState.REVOKED).select_related("connection"))


def fetched(person: User) -> QuerySet[Key]:
    """Return the live keys that a person may see and that agents fetch by API, by name."""
    keys = access.visible_keys(person).filter(state=KeyState.LIVE)
    return keys.filter(delivery_mode=DeliveryMode.PULL).select_related("environment")


def marks(key: Key, *, now: datetime) -> tuple[str, ...]:
    """Return the extra marks of a live key: expiring, overdue."""
    if key.state != KeyState.LIVE:
        return ()
    found = []
    if key.expires_at and key.expires_at <= now:
        found.append("overdue")
    elif key.expires_at and key.expires_at <= now + EXPIRING:
        found.append("expiring")
    if key.rotation_due_at and key.rotation_due_at <= now and "overdue" not in found:
        found.append("overdue")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who has rights on a key now: who, which, why and until when.

    use_id: the grant by which agents use the key, which can be ended by itself.
    """

    name: str
    kind: str
    permissions: tuple[str, ...]
    reason: str
    ends_at: datetime | None = None
    people: tuple[str, ...] = field(default=())
    use_id: UUID | None = None

    @property
    def as_actor(self) -> Actor:
        """Return what pages draw the holder by."""
        return Actor(self.kind, "", self.name)


def holders(key: Key, *, now: datetime) -> list[Holder]:
    """Return who may do what with a key now, by grants; the roles come on top of it."""
    live = (
        Grant.objects.filter(key=key, ended_at=None, starts_at__lte=now)
        .filter(Q(ends_at=None) | Q(ends_at__gt=now))
        .select_related("user", "group__team", "agent")
        .prefetch_related("group__user_set")
        .order_by("user__name", "group__name", "agent__name", "permission")
    )
    rows: dict[tuple[Any, ...], list[Grant]] = {}
    for row in live:
        holder = (row.user_id, row.group_id, row.agent_id)
        rows.setdefault((*holder, row.reason, row.ends_at), []).append(row)
    return [_holder(found) for found in rows.values()]


def grant_history(key: Key) -> QuerySet[Grant]:
    """Return every grant that a key ever had, newest first."""
    return key.grants.select_related("user", "group__team", "agent").order_by("-starts_at", "pk")


def _holder(rows: list[Grant]) -> Holder:
    first, group = rows[0], rows[0].group
    who: tuple[str, str, tuple[str, ...]]
    if first.user is not None:
        who = (str(first.user), "user", ())
    elif first.agent is not None:
        who = (first.agent.name, "agent", ())
    else:
        members = tuple(str(user) for user in group.user_set.all()) if group else ()
        who = (str(group.team) if group else "", "group", members)
    name, kind, members = who
    uses = [row.pk for row in rows if row.permission == KeyPermission.USE and row.user is None]
    return Holder(
        name=name,
        kind=kind,
        permissions=tuple(KeyPermission(row.permission).label for row in rows),
        reason=first.reason,
        ends_at=first.ends_at,
        people=members,
        use_id=uses[0] if uses else None,
    )


def _filtered(
    keys: QuerySet[Key], filters: Filters, *, person: User | None, now: datetime
) -> QuerySet[Key]:
    exact = {
        "state": filters.state,
        "environment__slug": filters.environment,
        "provider": filters.provider,
        "connection__slug": filters.connection,
        "team__team__slug": filters.team,
    }
    keys = keys.filter(**{name: value for name, value in exact.items() if value})
    if filters.q:
        text = naming.fold(filters.q)
        keys = keys.filter(Q(name__contains=text) | Q(title__icontains=filters.q))
    if filters.owner:
        if person is None:
            raise keyset.BadFilter("An agent owns no keys, so it cannot list its own.")
        keys = keys.filter(Q(owner=person) | Q(backup_owner=person))
    if filters.label:
        keys = keys.filter(labels__contains=[naming.fold(filters.label)])
    if filters.due == "expiring":
        keys = keys.filter(state=KeyState.LIVE, expires_at__gt=now, expires_at__lte=now + EXPIRING)
    if filters.due == "overdue":
        late = Q(expires_at__lte=now) | Q(rotation_due_at__lte=now)
        keys = keys.filter(late, state=KeyState.LIVE)
    return keys
