"""The OpenAPI 3.1 document: what the routers say, plus what holds for every address."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keyvault.api import bodies, limits, pages, problems, replays

if TYPE_CHECKING:
    from ninja import NinjaAPI

JSON = Any
ROOT = "/api/v1"
_ALWAYS = ("400", "401", "403", "404", "429", "503")
_WITH_BODY = ("408", "409", "413", "415", "422")
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "enum": [problems.PREFIX + name for name in problems.KINDS]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {"type": "string"},
                    "parameter": {"type": "string"},
                },
            },
        },
        "next_action": {"$ref": "#/components/schemas/NextAction"},
    },
}
_NEXT_ACTION = {
    "type": "object",
    "required": ["title", "method", "href"],
    "properties": {
        "title": {"type": "string"},
        "method": {"type": "string"},
        "href": {"type": "string"},
        "body": {"type": "object"},
    },
}
_IDEMPOTENCY_KEY = {
    "name": replays.HEADER,
    "in": "header",
    "required": False,
    "description": "The same key with the same body within 24 h gets the first answer again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
}
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "description": "Change it only while its ETag is this one; else 412.",
    "schema": {"type": "string", "maxLength": 200, "pattern": r'^(\*|(W/)?"[!#-~]*")$'},
}

# Operations with limits of their own: which, bytes of a body, calls.
_LIMITED = (
    (limits.BATCHES, bodies.BATCH.size, limits.REPORTING),
    (limits.LISTS, bodies.BATCH.size, limits.ASKING),
    (limits.LEASES, bodies.USUAL.size, limits.LENDING),
)


def build(api: NinjaAPI) -> dict[str, JSON]:
    """Return the whole document as plain JSON values."""
    found: dict[str, JSON] = dict(api.get_openapi_schema(path_prefix=ROOT.strip("/") + "/"))
    for _, method, operation in operations(found):
        _complete(method, operation)
    schemas = found["components"]["schemas"]
    schemas["Problem"], schemas["NextAction"] = _PROBLEM, _NEXT_ACTION
    found["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token of at most an hour."}
    }
    found["security"] = [{"bearer": []}]
    found["x-limits"] = {
        "body_bytes": bodies.USUAL.size,
        "calls_per_second": limits.PRINCIPAL.per_s,
        "burst": limits.PRINCIPAL.burst,
    }
    found.pop("servers", None)
    return found


def operations(document: dict[str, JSON]) -> Iterator[tuple[str, str, dict[str, JSON]]]:
    """Yield path, method and description of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete(method: str, operation: dict[str, JSON]) -> None:
    responses = {str(status): said for status, said in operation["responses"].items()}
    statuses = _ALWAYS + (_WITH_BODY if method != "get" else ())
    if operation["operationId"] in pages.GUARDED:
        operation["parameters"] = [*operation.get("parameters", ()), _IF_MATCH]
        statuses += ("412",)
    if operation["operationId"] in pages.GUARDED_BY_BODY:
        statuses += ("412",)
    for status in statuses:
        responses.setdefault(status, _problem(status))
    operation["responses"] = dict(sorted(responses.items()))
    for chosen, size, bucket in _LIMITED:
        if operation["operationId"] in chosen:
            operation["x-limits"] = {
                "body_bytes": size,
                "calls_per_second": bucket.per_s,
                "burst": bucket.burst,
            }
    if operation["operationId"] in limits.VALUES:
        operation["x-limits"] = {"body_bytes": bodies.VALUES.size}
    elif method == "post":
        operation["parameters"] = [*operation.get("parameters", ()), _IDEMPOTENCY_KEY]


def _problem(status: str) -> dict[str, JSON]:
    kinds = [name for name, kind in problems.KINDS.items() if str(kind.status) == status]
    said: dict[str, JSON] = {
        "description": "Problem: " + ", ".join(kinds),
        "content": {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in {"429", "503"}:
        said["headers"] = {"Retry-After": {"schema": {"type": "integer"}}}
    return said
