"""Where to go next: an address of this console, or the overview."""

from __future__ import annotations

from django.http import HttpRequest
from django.urls import reverse

from keyvault.accounts import origin


def next_page(request: HttpRequest) -> str:
    """Return the `next` of a form or address if it is a path here, else the overview."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    return origin.local_path(wanted) or reverse("overview")
