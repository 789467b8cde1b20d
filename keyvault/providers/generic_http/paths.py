"""Where a value stands in a JSON document: the dotted subset of JSONPath (RFC 9535)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from keyvault.providers.base import JSON, Misconfigured

_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]{0,63})|\[([0-9]{1,4})\]")
_PATH = re.compile(rf"\$(?:{_STEP.pattern}){{0,16}}")


@dataclass(frozen=True, slots=True)
class JsonPath:
    """One place, such as `$.data.key.id` or `$[0].id`; `$` is the whole document."""

    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: JSON, where: str) -> Self:
        """Read a path. Raises Misconfigured, which names `where` it is declared."""
        if not isinstance(text, str) or not _PATH.fullmatch(text):
            raise Misconfigured(
                f"{where} must be a path such as $.data.id or $.keys[0].id: names of letters, "
                "digits, _ and -, and numbers in brackets."
            )
        found = _STEP.findall(text)
        return cls(tuple(name or int(index) for name, index in found))

    def pick(self, document: JSON) -> JSON:
        """Return what stands there, or None where there is nothing."""
        for step in self.steps:
            if isinstance(step, str):
                document = document.get(step) if isinstance(document, dict) else None
            else:
                is_there = isinstance(document, list) and step < len(document)
                document = document[step] if is_there else None
        return document

    def text(self, document: JSON) -> str:
        """Return the text or whole number that stands there as text, or "" for anything else."""
        found = self.pick(document)
        is_plain = isinstance(found, str | int) and not isinstance(found, bool)
        return str(found) if is_plain else ""
