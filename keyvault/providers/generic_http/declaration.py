"""The four requests of an API as an administrator declares them, checked as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from keyvault.providers.base import Misconfigured
from keyvault.providers.generic_http.entries import Entry
from keyvault.providers.generic_http.paths import JsonPath
from keyvault.providers.generic_http.requests import MEMBERS, Request
from keyvault.providers.generic_http.templates import NAME

_TAKEN = frozenset({"admin", "tag", "id", "value", "cursor", "page"})
_MOST_PARAMETERS = 20
_DONE = range(200, 300)
# 408 and 429 say nothing of a credential, and a refusal of the asker says nothing of a key.
_REFUSED = frozenset(range(400, 500)) - {408, 429}
_GONE = _REFUSED - {401, 403, 407}


@dataclass(frozen=True, slots=True)
class Create:
    """How a credential is made, and where the answer has its id and value."""

    request: Request
    ok: frozenset[int]
    id: JsonPath
    value: JsonPath


@dataclass(frozen=True, slots=True)
class Listing:
    """How credentials are listed. `next` is where the cursor of the next page stands."""

    request: Request
    ok: frozenset[int]
    items: JsonPath
    id: JsonPath
    name: JsonPath
    enabled: JsonPath | None
    next: JsonPath | None

    @property
    def counts_pages(self) -> bool:
        """Say whether pages are asked for by number."""
        return "page" in self.request.variables


@dataclass(frozen=True, slots=True)
class Trial:
    """How a credential is tried, and what each answer means."""

    request: Request
    valid: frozenset[int]
    invalid: frozenset[int]
    principal: JsonPath | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a credential is ended; `gone` are the answers for one that is not there."""

    request: Request
    ok: frozenset[int]
    gone: frozenset[int]


@dataclass(frozen=True, slots=True)
class Declaration:
    """One API. `parameters` are the names of what each key may choose for itself."""

    parameters: tuple[str, ...]
    create: Create
    list: Listing
    validate: Trial
    revoke: Ending

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read and check a declaration. Raises Misconfigured with the first fault's place."""
        whole = Entry.document(text)
        whole.require_known(("parameters", "create", "list", "validate", "revoke"))
        parameters = _parameters(whole)
        return cls(
            parameters,
            _create(whole.entry("create", is_needed=True), parameters),
            _list(whole.entry("list", is_needed=True)),
            _validate(whole.entry("validate", is_needed=True)),
            _revoke(whole.entry("revoke", is_needed=True)),
        )


def _parameters(whole: Entry) -> tuple[str, ...]:
    found = whole.get("parameters", [])
    is_usable = isinstance(found, list) and all(
        isinstance(name, str) and NAME.fullmatch(name) and name not in _TAKEN for name in found
    )
    if not is_usable or len(set(found)) != len(found) or len(found) > _MOST_PARAMETERS:
        raise Misconfigured(
            f"parameters must list at most {_MOST_PARAMETERS} names of a-z, 0-9 and _, each once "
            f"and none of {', '.join(sorted(_TAKEN))}."
        )
    return tuple(found)


def _create(entry: Entry, parameters: tuple[str, ...]) -> Create:
    entry.require_known((*MEMBERS, "ok", "id", "value"))
    variables = {"admin", "tag", *parameters}
    request = Request.parse(entry, methods=("POST", "PUT"), variables=variables)
    _require(entry, request, "tag", "the name by which a lost answer is found again")
    remote_id = JsonPath.parse(entry.get("id"), entry.at("id"))
    value = JsonPath.parse(entry.get("value"), entry.at("value"))
    if remote_id == value:
        raise Misconfigured("create.id and create.value name one place, and ids are no secret.")
    return Create(request, entry.statuses("ok", ["2xx"], _DONE), remote_id, value)


def _list(entry: Entry) -> Listing:
    entry.require_known((*MEMBERS, "ok", "items", "id", "name", "enabled", "next"))
    variables = {"admin", "cursor", "page"}
    request = Request.parse(entry, methods=("GET", "POST"), variables=variables)
    used = request.variables
    if {"cursor", "page"} <= used or ("cursor" in used) != ("next" in entry.members):
        raise Misconfigured(
            "list goes on either by {cursor} together with next, which says where the next "
            "cursor stands, or by {page}, or has one page."
        )
    return Listing(
        request,
        entry.statuses("ok", ["2xx"], _DONE),
        JsonPath.parse(entry.get("items"), entry.at("items")),
        JsonPath.parse(entry.get("id"), entry.at("id")),
        JsonPath.parse(entry.get("name"), entry.at("name")),
        _optional(entry, "enabled"),
        _optional(entry, "next"),
    )


def _validate(entry: Entry) -> Trial:
    entry.require_known((*MEMBERS, "valid", "invalid", "principal"))
    request = Request.parse(entry, methods=("GET", "POST"), variables={"value", "id"})
    _require(entry, request, "value", "the credential that is tried")
    return Trial(
        request,
        entry.statuses("valid", ["2xx"], _DONE),
        entry.statuses("invalid", [401], _REFUSED),
        _optional(entry, "principal"),
    )


def _revoke(entry: Entry) -> Ending:
    entry.require_known((*MEMBERS, "ok", "gone"))
    methods = ("DELETE", "POST", "PUT", "PATCH")
    request = Request.parse(entry, methods=methods, variables={"admin", "id"})
    _require(entry, request, "id", "which credential ends")
    return Ending(
        request,
        entry.statuses("ok", ["2xx"], _DONE),
        entry.statuses("gone", [404, 410], _GONE),
    )


def _optional(entry: Entry, name: str) -> JsonPath | None:
    found = entry.get(name)
    return None if found is None else JsonPath.parse(found, entry.at(name))


def _require(entry: Entry, request: Request, name: str, why: str) -> None:
    if name not in request.variables:
        raise Misconfigured(f"{entry.where} must send {{{name}}}: {why}.")
