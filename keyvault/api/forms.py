"""Read the forms of the OAuth endpoints, and answer what goes wrong as RFC 6749 has it.

Secrets travel in the body or the Authorization header; a query string is
refused, because addresses end up in logs. Each address may send only so many
forms, whatever stands in them, before any of them is looked at.
"""

from __future__ import annotations

import base64
import binascii
import functools
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_plus

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.debug import sensitive_variables

from keyvault.accounts import lockout
from keyvault.agents import issuing
from keyvault.api import limits
from keyvault.audit import context

log = logging.getLogger(__name__)

MOST_BYTES = 32_768
MOST_FIELDS = 20
MEDIA_TYPE = "application/x-www-form-urlencoded"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
BUSY = "temporarily_unavailable"
_RETRY_S = 5
_MOST_DIGITS = 12

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
    """Read the form for a view, and answer what goes wrong with a document of RFC 6749.

    Every form is charged to its address first, a form that cannot be read as well.
    """

    @functools.wraps(answer)
    @sensitive_variables()
    def view(request: HttpRequest) -> HttpResponse:
        try:
            wait_s = _charge()
            form = _form(request)
            if wait_s:
                raise _too_many(form, wait_s)
            return answer(request, form)
        except Problem as problem:
            return problem.answer()
        except issuing.OUT_OF_SERVICE:
            log.exception("nothing was done at %s", request.path)
            return _unavailable().answer()

    return view


def basic(request: HttpRequest) -> tuple[str, str] | None:
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


def _charge() -> int:
    """Charge a call to its address; return the seconds to wait, 0 when it may go on.

    The bucket is not the one of bearer tokens: programs that read much keep
    nobody behind their address from renewing a token.
    """
    source = lockout.address_bucket(context.current().ip)
    return limits.take("oauth", source, limits.SOURCE)


def _too_many(form: Form, wait_s: int) -> Problem:
    # RFC 8628 section 3.5: to a device that polls, every error but slow_down is the end.
    return Problem(
        "slow_down" if form.get("grant_type") == DEVICE else BUSY,
        "Too many calls from this address. Wait for `Retry-After` seconds.",
        status=HTTPStatus.TOO_MANY_REQUESTS,
        retry_after_s=wait_s,
    )


def _unavailable() -> Problem:
    return Problem(
        BUSY,
        "Nothing was done. Try again in a few seconds.",
        status=HTTPStatus.SERVICE_UNAVAILABLE,
        retry_after_s=_RETRY_S,
    )


def _form(request: HttpRequest) -> dict[str, str]:
    """Return the fields of the body, each once and printable. Raises Problem.

    A field without a value counts as left out (RFC 6749 section 3.2).
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    is_number = length.isascii() and length.isdigit() and len(length) <= _MOST_DIGITS
    if not is_number or int(length) > MOST_BYTES:
        raise Problem("invalid_request", f"A form has at most {MOST_BYTES} bytes.")
    if request.content_type != MEDIA_TYPE or request.META.get("QUERY_STRING"):
        raise Problem("invalid_request", f"Send {MEDIA_TYPE} in the body, and no query.")
    try:
        pairs = parse_qsl(request.body.decode(), max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise Problem("invalid_request", "The form cannot be read.") from None
    form = dict(pairs)
    if len(form) != len(pairs) or not all(value.isprintable() for value in form.values()):
        raise Problem("invalid_request", "A field stands twice or holds control characters.")
    return form
