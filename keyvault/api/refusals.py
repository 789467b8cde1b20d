"""Which error of the domain is which problem, in one table; and count refusals for the ledger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import BadRequest, RequestDataTooBig
from django.db import DatabaseError, OperationalError
from django.http import Http404, HttpResponse
from django.utils import timezone

from approvals import ports, services
from approvals.policy.matching import NoPolicy
from keyvault.accounts import gates, lockout
from keyvault.actions import (
    about_keys,
    add_place,
    add_probe,
    askers,
    change_key,
    change_keys,
    new_adoption,
    new_grant,
    new_key,
    reveal_secret,
    revoke_key,
    rotate_key,
    rotate_keys,
)
from keyvault.agents import tokens
from keyvault.api import problems
from keyvault.api.principals import Principal
from keyvault.api.problems import Document, Fault, Problem
from keyvault.audit import denials, ledger
from keyvault.audit.selectors import BadCursor
from keyvault.connections import adopting, checks, drafts
from keyvault.connections.minting import NotMinted
from keyvault.dependents import declared
from keyvault.dependents import services as dependents
from keyvault.inventory import naming
from keyvault.inventory.services import NameTaken
from keyvault.leases import services as leases
from keyvault.rotation import batches, reports

if TYPE_CHECKING:
    from django.http import HttpRequest

log = logging.getLogger(__name__)
JSON = Any
Answer = Callable[[Exception], Document]
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="keyvault"'}


class Unreachable(ports.NotVisible):
    """What was asked for by name is hidden or missing; carries what the caller can do instead."""

    def __init__(self, next_action: Mapping[str, JSON]) -> None:
        super().__init__("There is nothing of this name for the caller.")
        self.next_action = next_action


def answer(request: HttpRequest, error: Exception) -> HttpResponse:
    """Return the problem document of an error, and count it when it is a refusal.

    Raises the error again when it is a fault of ours.
    """
    if isinstance(error, _COUNTED):
        _count(request, error)
    for kinds, document in _ANSWERS:
        if isinstance(error, kinds):
            return document(error).response()
    raise error


def _count(request: HttpRequest, error: Exception) -> None:
    """Count who was refused where. The path of a stranger is not kept: it may hold a token."""
    principal = getattr(request, "principal", None)
    is_known = isinstance(principal, Principal) and not isinstance(error, tokens.BadToken)
    gate = request.resolver_match.route if request.resolver_match else ""
    try:
        denials.count(
            gate if is_known else "bearer token",
            actor=principal.actor if is_known and principal else denials.NOBODY,
            example=request.path if is_known else "",
            now=timezone.now(),
        )
    except DatabaseError:
        log.exception("a refusal could not be counted")


def _plain(kind: str, *, says: bool = False, **headers: str) -> Answer:
    """Return a document of one kind; `says` lets the error speak, whose words are for callers."""
    fixed = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda error: Document(kind, str(error) if says else "", headers=fixed)


def _problem(error: Exception) -> Document:
    assert isinstance(error, Problem)  # noqa: S101 - the table says so.
    return problems.of(error)


def _token(_error: Exception) -> Document:
    return Document("invalid-token", headers=CHALLENGE)


def _unreachable(error: Exception) -> Document:
    assert isinstance(error, Unreachable)  # noqa: S101 - the table says so.
    return Document("not-found", next_action=error.next_action)


def _declaration(error: Exception) -> Document:
    """Point at each field of a declaration; a setting of the provider stands in `options`."""
    assert isinstance(error, new_key.BadDeclaration)  # noqa: S101 - the table says so.
    faults = [
        Fault(sentence, "/declared/" + name.replace("option_", "options/", 1))
        for name, sentence in error.errors.items()
    ]
    return Document("invalid", errors=faults)


def _target(error: Exception) -> Document:
    """Point at each setting of a place."""
    assert isinstance(error, drafts.BadDraft)  # noqa: S101 - the table says so.
    faults = [Fault(sentence, f"/target/{name}") for name, sentence in error.errors.items()]
    return Document("invalid", errors=faults)


def _adoption(error: Exception) -> Document:
    """Point at each field of each key that was brought."""
    assert isinstance(error, new_adoption.BadAdoption)  # noqa: S101 - the table says so.
    faults = [
        Fault(fault.sentence, f"/keys/{fault.at}/" + fault.field.replace("option_", "options/", 1))
        for fault in error.faults
    ]
    return Document("invalid", errors=faults)


def _text(error: Exception) -> Document:
    assert isinstance(error, services.BadText)  # noqa: S101 - the table says so.
    return Document("invalid", errors=[Fault(error.sentence, f"/{error.field}")])


def _asked(error: Exception) -> Document:
    assert isinstance(error, about_keys.AlreadyAsked)  # noqa: S101 - the table says so.
    follow = {
        "title": "Follow the request that was made before",
        "method": "GET",
        "href": f"/api/v1/requests/{error.request_id}",
    }
    return Document("conflict", str(error), next_action=follow)


def _not_renewable(error: Exception) -> Document:
    assert isinstance(error, leases.NotRenewable)  # noqa: S101 - the table says so.
    follow = {
        "title": "Take a new lease",
        "method": "POST",
        "href": "/api/v1/leases",
        "body": {"key": error.key},
    }
    return Document("conflict", str(error), next_action=follow)


def _not_minted(error: Exception) -> Document:
    """Tell what a later try may mend from what a person must."""
    assert isinstance(error, NotMinted)  # noqa: S101 - the table says so.
    if error.needs_person:
        return Document("conflict", f"Nothing was minted. {error.sentence}")
    left = " If something was, nobody holds it, and it ends by itself." if error.is_lost else ""
    return Document("unavailable", f"{error.sentence}{left}", headers={"Retry-After": "5"})


def _no_place(error: Exception) -> Document:
    again = {"Retry-After": str(leases.AGAIN_S)}
    return Document("unavailable", str(error), headers=again)


def _locked(error: Exception) -> Document:
    assert isinstance(error, lockout.LockedOut)  # noqa: S101 - the table says so.
    left = max(int((error.until - timezone.now()).total_seconds()), 1)
    return Document("too-many-requests", headers={"Retry-After": str(left)})


def _checked(error: Exception) -> Document:
    assert isinstance(error, checks.TooMany)  # noqa: S101 - the table says so.
    return Document("too-many-requests", str(error), headers={"Retry-After": str(error.wait_s)})


_COUNTED = (
    tokens.BadToken,
    ports.NotVisible,
    gates.MissingRight,
    services.NotEligible,
    services.Denied,
)
# The first line that fits answers. What is not listed is a fault of ours: 500, and in the log.
_ANSWERS: tuple[tuple[tuple[type[Exception], ...], Answer], ...] = (
    ((Problem,), _problem),
    ((tokens.BadToken,), _token),
    ((Unreachable,), _unreachable),
    ((ports.NotVisible, Http404), _plain("not-found")),
    ((about_keys.AlreadyAsked,), _asked),
    ((new_key.BadDeclaration,), _declaration),
    ((drafts.BadDraft,), _target),
    ((new_adoption.BadAdoption,), _adoption),
    ((services.BadText,), _text),
    ((RequestDataTooBig,), _plain("too-large")),
    ((naming.BadName,), _plain("bad-name", says=True)),
    ((BadCursor,), _plain("bad-query", says=True)),
    ((BadRequest,), _plain("bad-query", says=True)),
    ((services.Stale, services.Closed, NameTaken), _plain("conflict", says=True)),
    ((new_grant.NotGrantable,), _plain("conflict", says=True)),
    (
        (
            add_place.NotPlaceable,
            add_probe.NotAskable,
            change_key.NotChangeable,
            change_key.NothingToChange,
            revoke_key.NotRevocable,
            reveal_secret.NotRevealable,
            rotate_key.NotRotatable,
            rotate_keys.NotRotatable,
        ),
        _plain("conflict", says=True),
    ),
    (
        (reports.NotHeard, batches.NothingWaits, declared.KeyEnded, dependents.NameTaken),
        _plain("conflict", says=True),
    ),
    ((change_keys.TooDifferent,), _plain("too-different")),
    ((leases.NotRenewable,), _not_renewable),
    ((NotMinted,), _not_minted),
    ((leases.NoPlace,), _no_place),
    ((leases.NotLent, leases.NotOpen, leases.TooManyHeld), _plain("conflict", says=True)),
    ((askers.TooManyOpen,), _plain("too-many-open", says=True)),
    ((services.Denied, NoPolicy), _plain("denied-by-policy", says=True)),
    (
        (
            services.NotEligible,
            gates.MissingRight,
            askers.NobodyToAskFor,
            reports.NotDependent,
        ),
        _plain("forbidden", says=True),
    ),
    ((lockout.LockedOut,), _locked),
    ((checks.TooMany,), _checked),
    ((ledger.LedgerUnavailable, ports.NotBound), _plain("unavailable", Retry_After="5")),
    ((OperationalError, adopting.NotOpen), _plain("unavailable", Retry_After="5")),
)
