"""The framework's part: routers gathered into one API, with our parser and our problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser

from keyvault.api import (
    agents,
    batches,
    changes,
    comments,
    connections,
    dependents,
    events,
    imports,
    keys,
    leases,
    refusals,
    requests,
    rotations,
    usage,
)
from keyvault.api.problems import Fault, Problem

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

JSON = Any
VERSION = "v1"
_PLACES = {"query": "parameter", "path": "parameter", "header": "parameter"}


class BoundedParser(Parser):
    """Hand over the object that the door has read within its bounds."""

    def parse_body(self, request: HttpRequest) -> dict[str, JSON]:
        """Return the body of this call."""
        found: dict[str, JSON] = getattr(request, "json", None) or {}
        return found


def build() -> NinjaAPI:
    """Return the API with every router; it serves neither pages nor its own document."""
    api = NinjaAPI(
        title="keyvault",
        version=VERSION,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        parser=BoundedParser(),
        urls_namespace="api",
    )
    api.add_exception_handler(ValidationError, _invalid)
    api.add_exception_handler(HttpError, _unreadable)
    api.add_exception_handler(Exception, _refused)
    parts = (
        keys,
        changes,
        imports,
        usage,
        rotations,
        batches,
        dependents,
        agents,
        leases,
        requests,
        comments,
        connections,
        events,
    )
    for router in (part.router for part in parts):
        api.add_router("", router)
    return api


def _refused(_request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 - ninja's own type.
    """Leave every refusal to the door, which answers it after it has judged what was done."""
    raise error


def _invalid(request: HttpRequest, error: Any) -> HttpResponse:  # noqa: ANN401 - ninja's own type.
    faults = tuple(_faults(error, sent=getattr(request, "json", None) or {}))
    kind = "bad-query" if any(fault.parameter for fault in faults) else "invalid"
    return refusals.answer(request, Problem(kind, errors=faults))


def _unreadable(request: HttpRequest, _error: Any) -> HttpResponse:  # noqa: ANN401
    return refusals.answer(request, Problem("bad-request"))


def _faults(error: ValidationError, *, sent: Mapping[str, JSON]) -> Iterator[Fault]:
    """Yield one fault for each finding of the validation, without a word of what was sent."""
    for found in error.errors:
        place, *names = found["loc"]
        if place in _PLACES:
            yield Fault(found["msg"], parameter=str(names[-1]))
            continue
        # The first name is that of our own argument; of several kinds the second is the one tried.
        names = names[2:] if names[1:2] == [sent.get("kind")] else names[1:]
        path = [str(name).replace("~", "~0").replace("/", "~1") for name in names]
        yield Fault(found["msg"], pointer="".join(f"/{name}" for name in path))


DESCRIPTION = (
    "Metadata of keys, and requests, for programs. Deciding is not possible here: people decide "
    "on the page that shows the plan, with a fresh second factor. One address answers with a "
    "value, once: that at which an agent takes a lease. Agents read all others from the gateway."
)
