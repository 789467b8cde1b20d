"""The audit log: search it, open an event with its proof, export it, verify it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from approvals.ports import Actor
from keyvault.accounts import gates, selectors, sessions
from keyvault.audit import export as exports
from keyvault.audit import histogram, proofs, reading, trust, verifications
from keyvault.audit.checkpoints import NoSigner, Rewound
from keyvault.audit.query import Query
from keyvault.audit.selectors import BadCursor
from keyvault.audit.sink import SinkUnavailable
from keyvault.web import audit_parts as parts

READERS = ("auditors", "administrators")
_NOT_NOW = (NoSigner, Rewound, SinkUnavailable)
_TYPES = {exports.CSV: "text/csv; charset=utf-8", exports.JSONL: "application/jsonl"}


@gates.role_required(*READERS)
@require_GET
def log(request: HttpRequest) -> HttpResponse:
    """Show one page of what a query matches, with one event open beside it if asked."""
    now, raw = timezone.now(), _raw(request)
    seq = _number(request.GET.get("open", ""))
    try:
        query, page = reading.search(
            raw,
            actor=_actor(request),
            now=now,
            after=request.GET.get("after", ""),
            before=request.GET.get("before", ""),
        )
    except BadCursor as error:
        raise Http404 from error
    context: dict[str, Any] = {
        "nav": "audit",
        "raw": raw,
        "query": query,
        "tokens": parts.tokens(query),
        "mends": parts.mends(query),
        "tabs": parts.tabs(raw),
        "trust": trust.trust(now),
        "now": now,
    }
    if page is not None:
        context |= {
            "rows": parts.rows(page, request.GET, raw=raw, opened=seq),
            "page": parts.pager(page, raw),
            "picture": parts.picture(histogram.histogram(query, now=now)),
        }
    if seq is not None:
        context |= _opened(request, seq)
    return render(
        request, "keyvault/audit/log.html", context, status=422 if query.problems else 200
    )


@gates.role_required(*READERS)
@require_GET
def event(request: HttpRequest, seq: int) -> HttpResponse:
    """Show one event with its proof, recomputed now; as a fragment for the drawer if asked."""
    context = _opened(request, seq) | {"nav": "audit", "now": timezone.now()}
    page = "_drawer.html" if "drawer" in request.GET else "event.html"
    return render(request, f"keyvault/audit/{page}", context)


@gates.role_required(*READERS)
@require_GET
def proof(request: HttpRequest, seq: int) -> HttpResponse:
    """Hand out the proof of one event as a file that verifies offline."""
    try:
        found = proofs.bundle(reading.open_event(seq, actor=_actor(request), now=timezone.now()))
    except LookupError as error:
        raise Http404 from error
    response = JsonResponse(found, json_dumps_params={"ensure_ascii": False})
    response["Content-Disposition"] = f'attachment; filename="keyvault-event-{seq}.proof.json"'
    return response


@gates.role_required(*READERS)
@require_http_methods(["GET", "POST"])
def export(request: HttpRequest) -> HttpResponseBase:
    """Say what would be exported, then record it and stream it."""
    given = request.POST if request.method == "POST" else request.GET
    now, raw = timezone.now(), given.get("q", "")
    query = reading.parse(raw, now=now)
    kind = given.get("format", exports.JSONL)
    if request.method == "POST" and not query.problems and kind in _TYPES:
        try:
            made = exports.prepare(query, kind=kind, actor=_actor(request), now=now)
        except (exports.TooLarge, *_NOT_NOW) as error:
            status = 422 if isinstance(error, exports.TooLarge) else 503
            return _plan(request, query, error=str(error), status=status)
        response = StreamingHttpResponse(exports.lines(made), content_type=_TYPES[kind])
        response["Content-Disposition"] = f'attachment; filename="{made.filename}"'
        return response
    return _plan(request, query, status=422 if query.problems else 200)


@gates.role_required(*READERS)
@require_GET
def verifier(_request: HttpRequest) -> HttpResponse:
    """Hand out the stand-alone verifier: one file that needs nothing of keyvault."""
    response = HttpResponse(exports.verifier(), content_type="text/x-python; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="verify_ledger.py"'
    return response


@gates.role_required(*READERS)
@require_GET
def verify(request: HttpRequest) -> HttpResponse:
    """Show what is known of the ledger's integrity, and the runs that looked."""
    now = timezone.now()
    context = {
        "nav": "audit",
        "trust": trust.trust(now),
        "runs": verifications.recent(),
        "vkey": trust.public_key(),
        "now": now,
    }
    return render(request, "keyvault/audit/verify.html", context)


@gates.role_required(*READERS)
@require_POST
def verify_start(request: HttpRequest) -> HttpResponse:
    """Queue a verification of the whole ledger."""
    run_id = verifications.ask(actor=_actor(request), now=timezone.now())
    return redirect("audit-verification", run_id)


@gates.role_required(*READERS)
@require_GET
def verification(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Show one run: how far it is, or what it found."""
    try:
        run = verifications.get(run_id)
    except LookupError as error:
        raise Http404 from error
    page = "_run.html" if "part" in request.GET else "verification.html"
    context = {"nav": "audit", "run": run, "now": timezone.now()}
    return render(request, f"keyvault/audit/{page}", context)


def _plan(request: HttpRequest, query: Query, *, status: int, error: str = "") -> HttpResponse:
    now = timezone.now()
    found = None if query.problems else histogram.histogram(query, now=now)
    context = {
        "nav": "audit",
        "query": query,
        "raw": query.raw,
        "back": parts.address(query.raw),
        "tokens": parts.tokens(query),
        "count": parts.about(found.total) if found else "",
        "limit": f"{exports.PAGE_LIMIT:,}",
        "vkey": trust.public_key(),
        "error": error,
    }
    return render(request, "keyvault/audit/export.html", context, status=status)


def _opened(request: HttpRequest, seq: int) -> dict[str, Any]:
    try:
        opened = reading.open_event(seq, actor=_actor(request), now=timezone.now())
    except LookupError as error:
        raise Http404 from error
    facts = parts.proof_facts(opened.proof, seq)
    return {"opened": opened, "facts": facts, "recorded": parts.recorded(opened)}


def _actor(request: HttpRequest) -> Actor:
    return selectors.actor(sessions.person(request))


def _raw(request: HttpRequest) -> str:
    """Return the query, with what was typed into the field for one more filter."""
    return " ".join(filter(None, (request.GET.get(name, "").strip() for name in ("q", "add"))))


def _number(text: str) -> int | None:
    """Return an event's number from an address; anything else opens nothing."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None  # noqa: PLR2004 - what a bigint holds.


urlpatterns = [
    path("audit/", log, name="audit"),
    path("audit/e/<int:seq>/", event, name="audit-event"),
    path("audit/e/<int:seq>/proof.json", proof, name="audit-proof"),
    path("audit/export/", export, name="audit-export"),
    path("audit/verify_ledger.py", verifier, name="audit-verifier"),
    path("audit/verify/", verify, name="audit-verify"),
    path("audit/verify/start/", verify_start, name="audit-verify-start"),
    path("audit/verify/<uuid:run_id>/", verification, name="audit-verification"),
]
