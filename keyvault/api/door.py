"""The one door to every address that takes a token: who calls, how often, and in what form.

Each address passes here before anything else looks at the request. No session
and no cookie counts (the middleware has taken them away), so no browser can be
made to act, and every answer of the door is a problem document.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone

from keyvault.accounts import gates, lockout
from keyvault.agents import tokens
from keyvault.api import bodies, limits, principals, refusals, replays
from keyvault.api.principals import Principal
from keyvault.api.problems import Problem
from keyvault.audit import context

View = Callable[..., HttpResponseBase]
Operations = Mapping[str, Mapping[str, Any]]
_CONVERTER = re.compile(r"<(?:\w+:)?(\w+)>")


def guarded(view: View, operations: Operations) -> View:
    """Return a view behind the door. `operations`: what the document says of each method."""

    @gates.machine
    def entered(request: HttpRequest, /, **path: object) -> HttpResponseBase:
        try:
            return _enter(request, operations, lambda: view(request, **path))
        except Exception as error:  # noqa: BLE001 - the table raises again what is our own fault.
            return refusals.answer(request, error)

    functools.update_wrapper(entered, view)
    entered.csrf_exempt = True  # type: ignore[attr-defined] # There is no cookie that could be abused.
    return entered


def path_of(route: str) -> str:
    """Return a route of the URL configuration as the document writes it."""
    return "/" + _CONVERTER.sub(r"{\1}", route)


def bounds_of(name: str) -> bodies.Bounds:
    """Return what the body of an operation may hold, by its operationId."""
    if name in limits.VALUES:
        return bodies.VALUES
    return bodies.BATCH if name in limits.BATCHES | limits.LISTS else bodies.USUAL


def _enter(request: HttpRequest, operations: Operations, act: View) -> HttpResponseBase:
    """Let a call in and run it. Raises what stands in the way."""
    now = timezone.now()
    principal = _known(request, now=now)
    request.principal = principal  # type: ignore[attr-defined]
    limits.charge("principal", principal.label, limits.PRINCIPAL)
    operation = _operation(request, operations)
    _refuse_unlisted(request, operation)
    name = operation["operationId"]
    request.json = bodies.read(request, bounds_of(name))  # type: ignore[attr-defined]
    where = replace(
        context.current(), session=principal.token.public_id, on_behalf_of=principal.owner
    )
    with context.origin(where):
        _charge(request, name, principal.label)
        if request.method != "POST" or name in limits.VALUES:
            return act()
        return replays.once(request, principal=principal.label, now=now, act=act)


def _charge(request: HttpRequest, name: str, whose: str) -> None:
    """Take a call from the bucket of what it is about. To read is charged as a call alone."""
    if name in limits.RETURNS:
        limits.charge("returning", whose, limits.RETURNING)
    elif name in limits.BATCHES:
        limits.charge("reporting", whose, limits.REPORTING)
    elif name in limits.LEASES:
        limits.charge("lending", whose, limits.LENDING)
    elif request.method == "POST" or name in limits.ASKS:
        limits.charge("asking", whose, limits.ASKING)


def _known(request: HttpRequest, *, now: datetime) -> Principal:
    """Return the caller; every source may fail only so often before nothing is looked up."""
    source = lockout.address_bucket(context.current().ip)
    limits.charge("source", source, limits.SOURCE)
    limits.charge("failures", source, limits.FAILURES, cost=0)
    try:
        return principals.of(request, now=now)
    except tokens.BadToken:
        limits.charge("failures", source, limits.FAILURES)
        raise


def _operation(request: HttpRequest, operations: Operations) -> Mapping[str, Any]:
    found = operations.get((request.method or "").lower())
    if found is None:
        allowed = ", ".join(sorted(method.upper() for method in operations))
        raise Problem("method-not-allowed", headers={"Allow": allowed})
    return found


def _refuse_unlisted(request: HttpRequest, operation: Mapping[str, Any]) -> None:
    """Refuse a query that the document does not list: a filter left out would show too much."""
    listed = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    unknown = sorted(set(request.GET) - listed)
    if unknown:
        raise Problem("bad-query", f"This address does not take {unknown[0][:60]!r}.")
    twice = [name for name, values in request.GET.lists() if len(values) > 1]
    if twice:
        raise Problem("bad-query", f"{twice[0][:60]} stands there twice.")
