"""What existing keys must satisfy before anybody is asked to have them adopted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import ADMINISTRATORS, User
from keyvault.actions import about_keys, new_key
from keyvault.connections import adopting, minting, shadows
from keyvault.connections import selectors as connections
from keyvault.inventory import selectors
from keyvault.inventory.declaration import Declaration

JSON = Any
MOST = 200
LEAST_BYTES, MOST_BYTES = 8, 16_384
IN_FILE, KNOWN, ASKED = "in_file", "known", "asked"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one of the keys that were brought, by its place in their order."""

    at: int
    field: str
    sentence: str


class BadAdoption(Exception):
    """Some of what was brought cannot be asked for; nothing was. Repeats no value."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(" ".join(fault.sentence for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Found:
    """One existing key as somebody brings it.

    owner: a user name; empty for whoever brings it. remote_id: its id at the provider,
    where it is known.
    """

    declared: Declaration
    value: str = field(repr=False)
    owner: str = ""
    remote_id: str = ""


@dataclass(frozen=True, slots=True)
class Brought:
    """A key that was found in order: `at` is its place among those that were brought."""

    at: int
    owner: User
    declared: Declaration
    fingerprint: str
    remote_id: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A value that is there already. `of` names the key that holds it, where one may know."""

    name: str
    why: str
    of: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """One key of the plan. Its value lies sealed with the adoption of the same key."""

    key_id: UUID
    fingerprint: str
    remote_id: str
    declared: Declaration

    def to_json(self) -> dict[str, JSON]:
        """Return it as plain JSON values."""
        return {
            "key_id": str(self.key_id),
            "fingerprint": self.fingerprint,
            "remote_id": self.remote_id,
            "declared": self.declared.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Adopted:
        """Rebuild what `to_json` returned. Raises ValueError on another shape."""
        if set(data) != {entry.name for entry in dataclasses.fields(cls)}:
            raise ValueError("The stored key has other fields than one that is adopted.")
        return cls(
            key_id=UUID(data["key_id"]),
            fingerprint=str(data["fingerprint"]),
            remote_id=str(data["remote_id"]),
            declared=Declaration.from_json(data["declared"]),
        )


def checked(found: Sequence[Found], *, person: User) -> list[Brought]:
    """Return what was brought, complete and with its fingerprints. Raises BadAdoption."""
    faults: list[Fault] = []
    brought = []
    if not 0 < len(found) <= MOST:
        raise BadAdoption([Fault(0, "", f"Bring from 1 to {MOST} keys at once.")])
    for at, one in enumerate(found):
        owner, declared, errors = _one(one, person)
        faults += [Fault(at, name, sentence) for name, sentence in errors.items()]
        if not errors:
            mark = adopting.fingerprint(one.value)
            brought.append(Brought(at, owner, declared, mark, one.remote_id.strip(), one.value))
    if faults:
        raise BadAdoption(faults)
    return brought


def sift(brought: Sequence[Brought], *, person: User) -> tuple[list[Brought], list[Duplicate]]:
    """Return those whose values are new, and the others. Raises BadAdoption.

    Only whoever may see a key is told its name: who brings a value learns that it is known.
    """
    there = adopting.known({one.fingerprint for one in brought})
    fresh: dict[str, Brought] = {}
    duplicates = []
    for one in brought:
        known, twin = there.get(one.fingerprint), fresh.get(one.fingerprint)
        if known is not None:
            name = known.name if about_keys.key_may_look(person.pk, known.key_id) else ""
            why = ASKED if known.is_asked else KNOWN
            duplicates.append(Duplicate(one.declared.name, why, name))
        elif twin is not None:
            duplicates.append(Duplicate(one.declared.name, IN_FILE, twin.declared.name))
        else:
            fresh[one.fingerprint] = one
    kept = list(fresh.values())
    faults = [*_names(kept), *_ids(kept)]
    if faults:
        raise BadAdoption(faults)
    return kept, duplicates


def _one(found: Found, person: User) -> tuple[User, Declaration, dict[str, str]]:
    """Return the owner, the completed declaration, and what is wrong with one key."""
    owner, errors = _owner(found, person)
    declared = found.declared
    try:
        declared = new_key.checked(found.declared, person=owner)
    except new_key.BadDeclaration as error:
        errors |= error.errors
        if owner != person and "team" in errors:
            errors["team"] = f"Choose a team that {owner} belongs to."
    if "connection" not in errors:
        errors |= _kept(declared)
    size = len(found.value.encode())
    if not LEAST_BYTES <= size <= MOST_BYTES or "\0" in found.value:
        errors["value"] = f"A value has from {LEAST_BYTES} to {MOST_BYTES} bytes."
    if found.remote_id.strip() and "connection" not in errors:
        errors |= _remote(declared, found.remote_id.strip())
    return owner, declared, errors


def _owner(found: Found, person: User) -> tuple[User, dict[str, str]]:
    """Return who is to own a key: whoever brings it, or somebody whom they may bring it for."""
    name = found.owner.strip()
    refusal = {"owner": "Name yourself, or an active person of the team, which you belong to."}
    try:
        owner = people.user_by_username(name) if name else person
    except NotVisible:
        return person, refusal
    if owner == person:
        return person, {}
    stands = people.has_role(person, ADMINISTRATORS) or people.is_in(person, found.declared.team)
    if not owner.is_active or not stands:
        return person, refusal
    return owner, {}


def _kept(declared: Declaration) -> dict[str, str]:
    """Refuse a value of a provider that keeps none."""
    where = new_key.connection(declared.connection)
    if minting.mints(where):
        return {"connection": f"Nothing lasting exists at {where.title} that could be adopted."}
    return {}


def _remote(declared: Declaration, remote_id: str) -> dict[str, str]:
    """Say why an id at the provider cannot be taken; nothing when it can."""
    where = new_key.connection(declared.connection)
    if not connections.takes_listed(where.provider):
        return {"remote_id": f"What exists at {where.title} is adopted without an id."}
    try:
        shadows.get(connection_id=where.pk, remote_id=remote_id)
    except shadows.NotSeen:
        sentence = f"The last look at {where.title} saw no credential of this id without a key."
        return {"remote_id": sentence}
    return {}


def _names(brought: Sequence[Brought]) -> Iterator[Fault]:
    taken = selectors.reserved_among({one.declared.name for one in brought})
    seen: set[str] = set()
    for one in brought:
        name = one.declared.name
        if name in taken:
            yield Fault(one.at, "name", f"The name {name} is taken. Choose another one.")
        elif name in seen:
            yield Fault(one.at, "name", f"The name {name} stands there twice.")
        seen.add(name)


def _ids(brought: Sequence[Brought]) -> Iterator[Fault]:
    seen: set[tuple[str, str]] = set()
    for one in brought:
        if not one.remote_id:
            continue
        where = new_key.connection(one.declared.connection)
        if one.remote_id in adopting.taken_ids(where.pk):
            yield Fault(one.at, "remote_id", "Somebody has asked to adopt this one already.")
        elif (where.slug, one.remote_id) in seen:
            yield Fault(one.at, "remote_id", "The id stands there twice.")
        seen.add((where.slug, one.remote_id))
