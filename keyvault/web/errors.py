"""Answer what goes wrong: one page a status, with the request id that the logs carry too.

The middleware turns domain errors into these pages; Django's own handlers
end here as well. No page tells more than its reader may know: a 404 is the
same for what is hidden and for what does not exist.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import render_to_string

from keyvault.audit import context
from keyvault.web import moments

log = logging.getLogger(__name__)

AGAIN_S = "5"
_LAST_RESORT = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Problem: keyvault</title>'
    "<h1>Something broke on our side</h1><p>Nothing was changed by this page. "
    "The request id is in the response header X-Request-Id.</p></html>"
)


def page(request: HttpRequest, name: str, *, status: int, **extra: Any) -> HttpResponse:  # noqa: ANN401
    """Render `keyvault/errors/<name>.html` with the request id, never cached."""
    values = {"request_id": context.current().correlation_id, "status": status, **extra}
    body = render_to_string(f"keyvault/errors/{name}.html", values, request)
    return HttpResponse(body, status=status, headers={"Cache-Control": "no-store"})


def bad_request(
    request: HttpRequest,
    exception: Exception | None = None,  # noqa: ARG001 - Django passes it; no page shows it.
) -> HttpResponse:
    """Answer a request that no page of the console sends."""
    return page(request, "bad_request", status=400)


def forbidden(
    request: HttpRequest,
    exception: Exception | None = None,  # noqa: ARG001
    *,
    missing: str = "",
) -> HttpResponse:
    """Answer an act that this person may not do; `missing` names the right and who grants it."""
    return page(request, "forbidden", status=403, missing=missing)


def not_found(
    request: HttpRequest,
    exception: Exception | None = None,  # noqa: ARG001
) -> HttpResponse:
    """Answer alike for what does not exist and for what this person may not see."""
    return page(request, "not_found", status=404)


def conflict(request: HttpRequest, *, sentence: str = "", back: str = "") -> HttpResponse:
    """Answer an act on something that has changed since the page was opened."""
    return page(request, "conflict", status=409, sentence=sentence, back=back)


def too_many(request: HttpRequest, *, retry_after: timedelta) -> HttpResponse:
    """Answer somebody who must wait, and say until when."""
    response = page(request, "too_many", status=429, wait=moments.span(retry_after))
    response["Retry-After"] = str(max(int(retry_after.total_seconds()), 1))
    return response


def broken(request: HttpRequest) -> HttpResponse:
    """Answer a fault of ours. Touches no database, and holds even without templates."""
    try:
        return page(request, "broken", status=500)
    except (TemplateDoesNotExist, TemplateSyntaxError, LookupError, ValueError):
        log.exception("errors.page_failed")
        return HttpResponse(_LAST_RESORT, status=500)


def sealed(request: HttpRequest) -> HttpResponse:
    """Answer while the key-encryption key is not available."""
    return page(request, "sealed", status=503)


def unrecorded(request: HttpRequest) -> HttpResponse:
    """Answer while the ledger cannot be written: without a record there is no act."""
    return page(request, "unrecorded", status=503)


def unavailable(request: HttpRequest) -> HttpResponse:
    """Answer while the database does not. Touches no database itself."""
    response = page(request, "unavailable", status=503)
    response["Retry-After"] = AGAIN_S
    return response


def not_set_up(request: HttpRequest) -> HttpResponse:
    """Answer every page of an installation that has no administrator yet."""
    return page(request, "not_set_up", status=503)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a form whose token does not belong to this session."""
    log.warning("errors.csrf: %s", reason)
    return page(request, "csrf", status=403)
