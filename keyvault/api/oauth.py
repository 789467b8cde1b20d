"""The token endpoint (RFC 6749, 7009, 7523, 8693): a form in, a short-lived token out.

Refused proofs all look alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from keyvault.accounts import gates, lockout, origin
from keyvault.agents import device_flow, issuing
from keyvault.agents.issuing import Wish
from keyvault.agents.proofs import Refused
from keyvault.agents.tokens import BadScope, BadToken, Issued, TooManyLive
from keyvault.api import forms
from keyvault.api.forms import DEVICE, Form, Problem, documents
from keyvault.audit import denials

CREDENTIALS = "client_credentials"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret.
OUTSIDE = (
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
)


@gates.machine
@csrf_exempt
@require_POST
@documents
def token(request: HttpRequest, form: Form) -> HttpResponse:
    """Give a token for a proof."""
    if "grant_type" not in form:
        raise Problem("invalid_request", "Send grant_type.")
    grant = _GRANTS.get(form["grant_type"])
    if grant is None:
        raise Problem("unsupported_grant_type", f"Use {CREDENTIALS}, {EXCHANGE} or {DEVICE}.")
    try:
        return _granted(grant(request, form, _wish(form)))
    except TooManyLive as error:
        raise _too_many_live(error) from None


@gates.machine
@csrf_exempt
@require_POST
@documents
def revoke(_request: HttpRequest, form: Form) -> HttpResponse:
    """End the token in the form, which is its own proof (RFC 7009)."""
    if "token" not in form:
        raise Problem("invalid_request", "Send the token to end as `token`.")
    issuing.revoke(text=form["token"], now=timezone.now())
    return JsonResponse({})


def address() -> str:
    """Return the address of the token endpoint: what an assertion names as its audience."""
    return settings.PUBLIC_URL + reverse("oauth-token")


def _by_client(request: HttpRequest, form: Form, wish: Wish) -> Issued:
    """Answer the client credentials grant, by a secret or by a signed assertion."""
    basic = forms.basic(request)
    ways = [basic, form.get("client_secret"), form.get("client_assertion")]
    if sum(way is not None for way in ways) > 1:
        raise Problem("invalid_request", "Prove yourself in one way only.")
    name, ip, now = form.get("client_id", ""), origin.address(request), timezone.now()
    if "client_assertion" not in form:
        client_id, secret = basic or (name, form.get("client_secret", ""))
        with _refusals(_unknown_client):
            return issuing.for_secret(client_id=client_id, secret=secret, wish=wish, ip=ip, now=now)
    if form.get("client_assertion_type") != ASSERTION:
        raise Problem("invalid_request", f"client_assertion_type takes {ASSERTION}.")
    with _refusals(_unknown_client):
        return issuing.for_assertion(
            client_id=name,
            assertion=form["client_assertion"],
            audience=address(),
            wish=wish,
            ip=ip,
            now=now,
        )


def _by_token(request: HttpRequest, form: Form, wish: Wish) -> Issued:
    """Answer the token exchange grant (RFC 8693 section 2)."""
    subject, kind = form.get("subject_token", ""), form.get("subject_token_type", "")
    if not subject or form.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
        raise Problem("invalid_request", f"Send subject_token; the answer is {ACCESS_TOKEN}.")
    ip, now = origin.address(request), timezone.now()
    if kind == ACCESS_TOKEN:
        with _refusals(_bad_subject):
            return issuing.for_token(text=subject, wish=wish, ip=ip, now=now)
    if kind not in OUTSIDE:
        kinds = " or ".join((ACCESS_TOKEN, *OUTSIDE))
        raise Problem("invalid_request", f"subject_token_type takes {kinds}.")
    with _refusals(_bad_subject):
        return issuing.for_outside_token(
            client_id=form.get("client_id", ""), text=subject, wish=wish, ip=ip, now=now
        )


def _by_device(_request: HttpRequest, form: Form, _wish: Wish) -> Issued:
    """Answer the device code grant (RFC 8628 section 3.4); what it waits for is an error there."""
    try:
        return device_flow.redeem(device_code=form.get("device_code", ""), now=timezone.now())
    except device_flow.Pending:
        raise Problem("authorization_pending", "Nobody has confirmed it yet.") from None
    except device_flow.TooFast:
        raise Problem("slow_down", "Ask again later, and five seconds later each time.") from None
    except device_flow.Denied:
        raise Problem("access_denied", "The person has refused.") from None
    except device_flow.Lapsed:
        raise Problem("expired_token", "The code is over. Begin again.") from None
    except BadToken:
        raise Problem("invalid_grant", "This code opens nothing.") from None


_GRANTS: Mapping[str, Callable[[HttpRequest, Form, Wish], Issued]] = {
    CREDENTIALS: _by_client,
    EXCHANGE: _by_token,
    DEVICE: _by_device,
}


@contextmanager
def _refusals(refused: Callable[[], Problem]) -> Iterator[None]:
    """Turn what the domain refuses into the one answer that all refused proofs share."""
    try:
        yield
    except Refused:
        raise refused() from None
    except BadScope as error:
        raise Problem("invalid_scope", str(error)) from None
    except lockout.LockedOut as error:
        problem = refused()
        left = error.until - timezone.now()
        problem.status = HTTPStatus.TOO_MANY_REQUESTS
        problem.retry_after_s = max(int(left.total_seconds()), 1)
        raise problem from None


def _unknown_client() -> Problem:
    sentence = "This proof opens nothing. The audit log holds the reason."
    return Problem("invalid_client", sentence, status=HTTPStatus.UNAUTHORIZED)


def _bad_subject() -> Problem:
    # RFC 8693 section 2.2.2 demands this error for a subject token of any fault.
    sentence = "This subject token opens nothing. The audit log holds the reason."
    return Problem("invalid_request", sentence)


def _too_many_live(error: TooManyLive) -> Problem:
    """Return the refusal of a right proof, and count it: its owner should hear of it."""
    now = timezone.now()
    denials.count("token: too many live", actor=error.holder, example="", now=now)
    return Problem(
        forms.BUSY,
        f"{error} Give back those that are done ({reverse('oauth-revoke')}), or ask for shorter "
        "ones (expires_in).",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        retry_after_s=max(math.ceil((error.until - now).total_seconds()), 1),
    )


def _granted(issued: Issued) -> HttpResponse:
    row = issued.token
    body: dict[str, object] = {
        "access_token": issued.text.reveal().decode(),
        "token_type": "Bearer",
        "expires_in": int((row.expires_at - row.issued_at).total_seconds()),
        "issued_token_type": ACCESS_TOKEN,
    }
    if row.user is not None:
        body["person"] = row.user.username
    if row.keys is not None:
        body["scope"] = " ".join(row.keys)
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    return JsonResponse(body, headers=headers)


def _wish(form: Form) -> Wish:
    if form.get("scope") and form.get("keys"):
        raise Problem("invalid_request", "Send `scope` or `keys`; they mean the same.")
    try:
        return Wish.parse(
            keys=form.get("scope") or form.get("keys", ""), expires_in=form.get("expires_in", "")
        )
    except BadScope as error:
        raise Problem("invalid_scope", str(error)) from None
    except issuing.BadLifetime as error:
        raise Problem("invalid_request", str(error)) from None


urlpatterns = [
    path("token", token, name="oauth-token"),
    path("revoke", revoke, name="oauth-revoke"),
]
