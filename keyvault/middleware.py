"""What every request passes: origin, browser policy, session rules, the gate.

Deny by default: a view without a gate is closed, and so is a new one until
somebody names who may call it.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import quote

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import patch_vary_headers

from keyvault.accounts import (
    gates,
    origin,
    sessions,
    setup,
)
from keyvault.api import problems
from keyvault.audit import context
from keyvault.domain_errors import AWAY, unavailable, url_name
from keyvault.web import errors

log = logging.getLogger(__name__)
Next = Callable[[HttpRequest], HttpResponse]
View = Callable[..., HttpResponse]

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
            return unavailable(request, error)
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
            return unavailable(request, error)

    def process_view(
        self, request: HttpRequest, view: View, _args: object, _kwargs: object
    ) -> HttpResponse | None:
        """Let the view run, or return what to answer instead. Every method obeys."""
        try:
            return _at_the_gate(request, gates.of(view))
        except AWAY as error:
            return unavailable(request, error)


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
    elif url_name(request) not in NOT_A_PERSON:
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
