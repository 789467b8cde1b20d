"""Turn lines of the ledger into what a timeline shows, oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.urls import reverse

if TYPE_CHECKING:
    from keyvault.audit.selectors import Line


def items(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return lines that come newest first as items of a timeline, oldest first."""
    return [
        {
            "actor": line.actor,
            "text": line.sentence,
            "at": line.at,
            "href": reverse("request", args=[line.request_id]) if line.request_id else "",
            "note": f"event {line.seq}" if line.seq else "event not yet numbered",
        }
        for line in reversed(lines)
    ]
