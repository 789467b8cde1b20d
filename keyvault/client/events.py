"""Server-sent events, cut from bytes as they come (WHATWG HTML, section 9.2.6). Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

_MOST_BYTES = 1_000_000


class TooLong(ValueError):
    """The stream sends one event that never ends."""


@dataclass(slots=True)
class Parser:
    """Take chunks of any size and return the events that they complete."""

    _rest: bytes = field(default=b"", repr=False)

    def feed(self, chunk: bytes) -> list[tuple[str, dict[str, Any]]]:
        """Return (name, data) of every event that is now complete. Raises TooLong.

        Comments are skipped, and so is data that is not a JSON object.
        """
        lines = (self._rest + chunk).replace(b"\r\n", b"\n")
        *blocks, self._rest = lines.split(b"\n\n")
        if len(self._rest) > _MOST_BYTES:
            raise TooLong("an event of the stream does not end")
        return [event for block in blocks if (event := _event(block)) is not None]


def _event(block: bytes) -> tuple[str, dict[str, Any]] | None:
    name, data = "message", []
    for line in block.decode("utf-8", "replace").split("\n"):
        label, _, text = line.partition(":")
        if label == "event":
            name = text.removeprefix(" ")
        elif label == "data":
            data.append(text.removeprefix(" "))
    try:
        found = json.loads("\n".join(data)) if data else None
    except ValueError:
        return None
    return (name, found) if isinstance(found, dict) else None
