"""The token endpoint (RFC 6749, 7009, 7523, 8693): a form in, a short-lived token out.

Refused proofs all look alike. Secrets travel in the body or the Authorization
header; a query string is refused, because addresses end up in logs.
"""

from __future__ import annotations

import base64
import binascii
import functools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_plus

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_POST

from keyvault.accounts import gates, lockout, origin
from keyvault.agents import device_flow, issuing
from keyvault.agents.issuing import Wish
from keyvault.agents.proofs import Refused
from keyvault.agents.tokens import BadScope, BadToken, Issued

log = logging.getLogger(__name__)

MOST_BYTES = 32_768
MOST_FIELDS = 20
FORM = "application/x-www-form-urlencoded"
CREDENTIALS = "client_credentials"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a name, no secret.
OUTSIDE = (
    "urn:ietf:params:oauth:token-type:jwt",
    "urn:ietf:params:oauth:token-type:id_token",
)
_RETRY_S = 5

Form = Mapping[str, str]


class Problem(Exception):
    """What to answer instead of a token (RFC 6749 section 5.2)."""

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status: int = HTTPStatus.BAD_REQUEST,
        retry_after_s: int = 0,
    ) -> None:
        super().__init__(error)
        self.error, self.description = error, description
        self.status, self.retry_after_s = status, retry_after_s

    def answer(self) -> HttpResponse:
        """Return it as a document."""
        body = {"error": self.error, "error_description": self.description}
        response = JsonResponse(body, status=self.status)
        if self.status == HTTPStatus.UNAUTHORIZED:
            response["WWW-Authenticate"] = 'Basic realm="keyvault"'
        if self.retry_after_s:
            response["Retry-After"] = str(self.retry_after_s)
        return response


def documents(
    answer: Callable[[HttpRequest, Form], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Read the form for a view, and answer what goes wrong with a document of RFC 6749."""

    @functools.wraps(answer)
    @sensitive_variables()
    def view(request: HttpRequest) -> HttpResponse:
        try:
            return answer(request, _form(request))
        except Problem as problem:
            return problem.answer()
        except issuing.OUT_OF_SERVICE:
            log.exception("nothing was done at %s", request.path)
            return _unavailable().answer()

    return view


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
    return _granted(grant(request, form, _wish(form)))


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
    basic = _basic(request)
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


def _unavailable() -> Problem:
    return Problem(
        "temporarily_unavailable",
        "Nothing was done. Try again in a few seconds.",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        retry_after_s=_RETRY_S,
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


def _form(request: HttpRequest) -> dict[str, str]:
    """Return the fields of the body, each once and printable. Raises Problem.

    A field without a value counts as left out (RFC 6749 section 3.2).
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdigit()) or int(length) > MOST_BYTES:
        raise Problem("invalid_request", f"A form has at most {MOST_BYTES} bytes.")
    if request.content_type != FORM or request.META.get("QUERY_STRING"):
        raise Problem("invalid_request", f"Send {FORM} in the body, and nothing in the address.")
    try:
        pairs = parse_qsl(request.body.decode(), max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise Problem("invalid_request", "The form cannot be read.") from None
    form = dict(pairs)
    if len(form) != len(pairs) or not all(value.isprintable() for value in form.values()):
        raise Problem("invalid_request", "A field stands twice or holds control characters.")
    return form


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


def _basic(request: HttpRequest) -> tuple[str, str] | None:
    """Return client id and secret of an Authorization header, or None. Raises Problem.

    Both are form-encoded before they are joined (RFC 6749 section 2.3.1).
    """
    scheme, _, rest = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        joined = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, ValueError):
        joined = ""
    name, colon, secret = joined.partition(":")
    name, secret = unquote_plus(name), unquote_plus(secret)
    if not colon or not (name + secret).isprintable():
        raise Problem("invalid_request", "The Authorization header cannot be read.")
    return name, secret


urlpatterns = [
    path("token", token, name="oauth-token"),
    path("revoke", revoke, name="oauth-revoke"),
]
