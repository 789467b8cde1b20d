"""What the domain raises, as pages that say what the person can do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta

from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from approvals import ports, services
from keyvault.accounts import (
    administrators,
    factors,
    gates,
    invitations,
    lockout,
    selectors,
    sessions,
    setup,
)
from keyvault.audit import denials, ledger
from keyvault.crypto.keyring import NoKey
from keyvault.web import errors

log = logging.getLogger(__name__)
Next = Callable[[HttpRequest], HttpResponse]
Answer = Callable[[HttpRequest, Exception], HttpResponse]

# The database is gone or broke the statement off: no fault of the request, which may do later.
AWAY = (OperationalError, InterfaceError)


class DomainErrors:
    """Turn what the domain raises into pages; each says what the person can do."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Run the request."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Return the page of a known error, or None for one that is a fault of ours."""
        if isinstance(error, _REFUSALS):
            _count_refusal(request)
        for kinds, answer in _ANSWERS:
            if isinstance(error, kinds):
                return answer(request, error)
        return None


def url_name(request: HttpRequest) -> str:
    """Return the name of the address that was asked for, or nothing where there is none."""
    match = request.resolver_match
    return (match.url_name if match else None) or ""


def unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    """Answer 503 while the database is away."""
    log.error("the database does not answer", exc_info=error)
    return errors.unavailable(request)


def _count_refusal(request: HttpRequest) -> None:
    """Count a refusal for the ledger. Only a signed-in reader's path is kept: others carry tokens."""
    if not sessions.is_verified(request):
        return
    try:
        denials.count(
            url_name(request),
            actor=selectors.actor(sessions.person(request)),
            example=request.path,
            now=timezone.now(),
        )
    except DatabaseError:
        log.exception("a refusal could not be counted")


def _conflict(request: HttpRequest, error: Exception) -> HttpResponse:
    return errors.conflict(request, sentence=str(error), back=request.path)


def _forbidden(request: HttpRequest, error: Exception) -> HttpResponse:
    return errors.forbidden(request, missing=str(error))


def _locked_out(request: HttpRequest, error: Exception) -> HttpResponse:
    until = error.until if isinstance(error, lockout.LockedOut) else timezone.now()
    return errors.too_many(request, retry_after=max(until - timezone.now(), timedelta(seconds=1)))


def _not_found(request: HttpRequest, _error: Exception) -> HttpResponse:
    return errors.not_found(request)


def _sealed(request: HttpRequest, _error: Exception) -> HttpResponse:
    return errors.sealed(request)


def _unrecorded(request: HttpRequest, _error: Exception) -> HttpResponse:
    log.error("the ledger cannot be written, so nothing was done")
    return errors.unrecorded(request)


_REFUSALS = (ports.NotVisible, gates.MissingRight, services.NotEligible, services.Denied)
# The first line that fits answers. What is not listed is a fault of ours: 500, and in the log.
_ANSWERS: tuple[tuple[tuple[type[Exception], ...], Answer], ...] = (
    ((ports.NotVisible, setup.AlreadySetUp), _not_found),
    ((services.Stale, services.Closed), _conflict),
    ((administrators.LastAdministrators, invitations.NotSolo), _conflict),
    ((services.NotEligible, services.Denied), _forbidden),
    ((gates.MissingRight, ports.NotPresent, factors.MayNotEnrol), _forbidden),
    ((lockout.LockedOut,), _locked_out),
    ((NoKey, ports.NotBound), _sealed),
    ((ledger.LedgerUnavailable,), _unrecorded),
    (AWAY, unavailable),
)
