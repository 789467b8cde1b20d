"""Plain values that every kind of plug-in shares: fields of forms, problems and answers over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

JSON = Any  # A value that `json.dumps` accepts.


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a form. `kind` is text, longtext, number, choice or secret.

    `names_server` marks the settings that tell one server from another, such
    as host and port: a credential is revoked only where these are as they were
    when it was issued.
    """

    name: str
    label: str
    kind: str = "text"
    help: str = ""
    required: bool = True
    default: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    names_server: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that stands in the way, and what a person does about it.

    `is_fatal` says that no key can be created until it is mended.
    """

    sentence: str
    mend: str
    is_fatal: bool = True

    def to_json(self) -> dict[str, JSON]:
        """Return the problem as plain JSON values."""
        return {"sentence": self.sentence, "mend": self.mend, "is_fatal": self.is_fatal}

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Self:
        """Rebuild what `to_json` returned."""
        return cls(data["sentence"], data["mend"], is_fatal=data["is_fatal"])


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer over HTTP, whatever its status; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
