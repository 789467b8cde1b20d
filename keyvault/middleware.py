"""What every request passes: origin, browser policy, session rules, the gate, domain errors.

Deny by default: a view without a gate is closed, and so is a new one until
somebody names who may call it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from urllib.parse import quote

from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from approvals import ports, services
from keyvault.accounts import (
    administrators,
    factors,
    gates,
    invitations,
    lockout,
    origin,
    selectors,
    sessions,
    setup,
)
from keyvault.api import problems
from keyvault.audit import context, denials, ledger
from keyvault.crypto.keyring import NoKey
from keyvault.web import errors

log = logging.getLogger(__name__)
Next = Callable[[HttpRequest], HttpResponse]
View = Callable[..., HttpResponse]
Answer = Callable[[HttpRequest, Exception], HttpResponse]

USER_AGENT_CHARS = 300
PERMISSIONS = ", ".join(
    (
        "publickey-credentials-get=(self)",
        "publickey-credentials-create=(self)",
        "clipboard-write=(self)",
        *(
            f"{feature}=()"
            for feature in (
                "accelerometer",
                "camera",
                "display-capture",
                "geolocation",
                "gyroscope",
                "magnetometer",
                "microphone",
                "midi",
                "payment",
                "usb",
                "xr-spatial-tracking",
            )
        ),
    )
)
# The page's own poll is no sign that anybody sits in front of it.
NOT_A_PERSON = frozenset({"live"})
FINISH_SIGN_IN = "keyvault/accounts/finish_sign_in.html"
API = "/api/"
READS = frozenset({"GET", "HEAD"})
# The database is gone or broke the statement off: no fault of the request, which may do later.
AWAY = (OperationalError, InterfaceError)


class RequestContext:
    """Give the request an id, and tell ledger and log where it comes from."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Run the request under its origin; the id goes back in `X-Request-Id`."""
        correlation_id = uuid.uuid4().hex
        where = context.Origin(
            ip=origin.address(request),
            user_agent=request.headers.get("User-Agent", "")[:USER_AGENT_CHARS],
            correlation_id=correlation_id,
        )
        with context.origin(where):
            response = self.get_response(request)
        response["X-Request-Id"] = correlation_id
        return response


class Machines:
    """Keep browsers' ways out of /api/: no cookie goes in, no page and no cookie comes out.

    Whatever refuses a call under /api/, be it a view, another middleware or
    Django itself, the program gets a problem document. A session is never
    looked up, so that no browser can be made to act through the API.
    """

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Run a call to the API without cookies; leave every other request alone."""
        if not request.path_info.startswith(API):
            return self.get_response(request)
        request.META.pop("HTTP_COOKIE", None)
        response = self.get_response(request)
        response.cookies.clear()
        if response.status_code >= HTTPStatus.BAD_REQUEST and not _is_json(response):
            return problems.in_place_of(response)
        return response


class BrowserPolicy:
    """Set what is the same on every page; static files are answered before this."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Keep every answer out of every cache, and every powerful feature off."""
        response = self.get_response(request)
        response["Permissions-Policy"] = PERMISSIONS
        response["Cross-Origin-Resource-Policy"] = "same-origin"
        response["Cache-Control"] = "no-store"
        patch_vary_headers(response, ("Cookie", "Authorization"))
        return response


class SessionRules:
    """End sessions that were idle for 30 minutes or are 12 hours old; name them to the ledger."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Run the request, and leave the cookie of a session that was gone before it alone."""
        with context.origin(replace(context.current(), session=sessions.label(request))):
            response = self.get_response(request)
        _keep_stale_cookie(request)
        return response

    def process_view(
        self, request: HttpRequest, view: View, _args: object, _kwargs: object
    ) -> HttpResponse | None:
        """End what is over; note that a person was here, unless only the poll was."""
        if gates.of(view) in {gates.PUBLIC, gates.MACHINE}:
            return None
        try:
            _note_presence(request)
        except AWAY as error:
            return _unavailable(request, error)
        return None


class SignedInOnly:
    """Close every view to whoever has not passed both factors, unless its gate says otherwise."""

    def __init__(self, get_response: Next) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer unknown addresses like known ones while nothing is set up."""
        response = self.get_response(request)
        is_unknown = response.status_code == HTTPStatus.NOT_FOUND and request.resolver_match is None
        try:
            return errors.not_set_up(request) if is_unknown and setup.is_open() else response
        except AWAY as error:
            return _unavailable(request, error)

    def process_view(
        self, request: HttpRequest, view: View, _args: object, _kwargs: object
    ) -> HttpResponse | None:
        """Let the view run, or return what to answer instead. Every method obeys."""
        try:
            return _at_the_gate(request, gates.of(view))
        except AWAY as error:
            return _unavailable(request, error)


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


def _is_json(response: HttpResponse) -> bool:
    kind = response.get("Content-Type", "").partition(";")[0]
    return kind in {"application/json", problems.MEDIA_TYPE}


def _note_presence(request: HttpRequest) -> None:
    """End a session that is over; note that a person was here, unless only the poll was."""
    if not request.user.is_authenticated:
        return
    now = timezone.now()
    if sessions.is_over(request, now=now):
        sessions.drop(request)
    elif _url_name(request) not in NOT_A_PERSON:
        sessions.touch(request, now=now)


def _at_the_gate(request: HttpRequest, gate: str | None) -> HttpResponse | None:
    """Return what to answer whoever may not pass a gate, and None to let them in."""
    if gate == gates.PUBLIC:
        return None
    if setup.is_open() or gate == gates.SETUP:
        return _while_not_set_up(request, gate)
    if gate in {gates.VISITOR, gates.MACHINE} or (
        gate == gates.HALF and request.user.is_authenticated
    ):
        return None
    if gate is None:
        log.error("a view without a gate was asked for: %s", request.path)
        return errors.forbidden(request)
    return None if sessions.is_verified(request) else _sign_in_first(request)


def _while_not_set_up(request: HttpRequest, gate: str | None) -> HttpResponse | None:
    if not setup.is_open():
        return errors.not_found(request)
    return None if gate == gates.SETUP else errors.not_set_up(request)


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    """Send a reader to the sign-in page; refuse everything else, and half a session, with 403."""
    if request.user.is_authenticated:
        return render(request, FINISH_SIGN_IN, status=HTTPStatus.FORBIDDEN)
    if request.method not in READS:
        return errors.forbidden(request, missing="Sign in first; nothing was changed.")
    return HttpResponseRedirect(f"{reverse('login')}?next={quote(request.get_full_path())}")


def _count_refusal(request: HttpRequest) -> None:
    """Count a refusal for the ledger. Only a signed-in reader's path is kept: others carry tokens."""
    if not sessions.is_verified(request):
        return
    try:
        denials.count(
            _url_name(request),
            actor=selectors.actor(sessions.person(request)),
            example=request.path,
            now=timezone.now(),
        )
    except DatabaseError:
        log.exception("a refusal could not be counted")


def _url_name(request: HttpRequest) -> str:
    match = request.resolver_match
    return (match.url_name if match else None) or ""


def _keep_stale_cookie(request: HttpRequest) -> None:
    """Keep Django from deleting the cookie of a session that was already unknown.

    Step-up gives the session a new key. A poll of another tab that was under
    way with the old one would otherwise answer "delete your cookie" after the
    new cookie has arrived, and sign the person out. Django leaves cookies
    alone on a request without a session.
    """
    session = getattr(request, "session", None)
    if session is not None and session.is_empty() and not sessions.was_ended(request):
        del request.session


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


def _unavailable(request: HttpRequest, error: Exception) -> HttpResponse:
    log.error("the database does not answer", exc_info=error)
    return errors.unavailable(request)


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
    (AWAY, _unavailable),
)
