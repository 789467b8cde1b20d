"""Every address of the automation API. Each stands behind the door, but for the document."""

from __future__ import annotations

from functools import cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET

from keyvault.accounts import gates
from keyvault.api import document, door, frame
from keyvault.api.problems import Document

_API = frame.build()


@cache
def openapi() -> dict[str, Any]:
    """Return the document of this version."""
    return document.build(_API)


@gates.public
@require_GET
def described(_request: HttpRequest) -> HttpResponse:
    """Hand out the document; it says nothing that the source does not."""
    return JsonResponse(openapi())


@gates.machine
@csrf_exempt
def nothing(_request: HttpRequest, rest: str) -> HttpResponse:
    """Answer every other address under /api/ as a program expects it."""
    del rest
    return Document("not-found", "There is no such address.").response()


def _guarded() -> list[URLPattern]:
    """Return the routers' addresses behind the door, without the framework's own root."""
    listed = openapi()["paths"]
    found: dict[str, URLPattern] = {}
    for pattern in _API.urls[0]:
        route = f"{document.ROOT.strip('/')}/{pattern.pattern}"
        operations = listed.get(door.path_of(route))
        if isinstance(pattern, URLPattern) and operations is not None:
            view = door.guarded(pattern.callback, operations)
            found.setdefault(route, path(route, view, name=f"api-{pattern.name}"))
    return list(found.values())


urlpatterns = [
    path("api/v1/openapi.json", described, name="api-document"),
    *_guarded(),
    path("api/<path:rest>", nothing, name="api-nothing"),
]
