"""One version of one key as an agent holds it. It never shows itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from keyvault.crypto.secret import Secret

ONE = "value"


class NoSuchField(LookupError):
    """The key has no such field, or has several and none was named. Lists their names."""

    def __init__(self, key: str, fields: tuple[str, ...], asked: str | None) -> None:
        said = f"has no field {asked}" if asked else "has several fields, so name one"
        super().__init__(f"{key} {said}: {', '.join(fields)}.")
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Value:
    """A key's current version. Printing, formatting and pickling never show what it holds.

    `public` is what belongs to the value and is no secret, such as a user name that
    changes with the version. `expires_at` is when the provider ends it, `not_after` until when keyvault
    lets an answer be kept; both may be None.
    """

    key: str
    version: int
    etag: str
    secrets: Mapping[str, Secret]
    public: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None
    not_after: datetime | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the names of its fields; a plain value has the one field `value`."""
        return tuple(self.secrets)

    def reveal(self, field: str | None = None) -> str:
        """Return the plain text, of one field where there are several. Raises NoSuchField.

        A field of `public` is found here, too.
        """
        if field is not None and field in self.public and field not in self.secrets:
            return self.public[field]
        if field is None and len(self.secrets) != 1:
            raise NoSuchField(self.key, self.fields, None)
        if field is not None and field not in self.secrets:
            raise NoSuchField(self.key, self.fields, field)
        found = self.secrets[field] if field is not None else next(iter(self.secrets.values()))
        return found.reveal().decode()

    def __repr__(self) -> str:
        return f"<{self.key} version {self.version}, hidden>"

    __str__ = __repr__
