"""What an installation token may do, and for how long a run may hold one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from keyvault.providers.base import JSON, Context, Misconfigured

_PERMISSION = re.compile(r"([a-z][a-z_]{1,60}):(read|write|admin)")
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}")
_LEVELS = ("read", "write", "admin")
_MOST_REPOSITORIES = 500  # The vendor takes no more.
LIFE_S = 3600  # The vendor's, and not to be chosen.


@dataclass(frozen=True, slots=True)
class Rights:
    """`permissions` by name with their level; no `repositories` mean all of the installation."""

    permissions: Mapping[str, str]
    repositories: tuple[str, ...]

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Read the settings of a key. Raises Misconfigured."""
        permissions = _permissions(str(ctx.options.get("permissions") or "").split())
        if not permissions:
            # Without any the vendor would grant all that the app has.
            raise Misconfigured("Give at least one permission, such as contents:read.")
        names = tuple(dict.fromkeys(str(ctx.options.get("repositories") or "").split()))
        if not all(map(_REPOSITORY.fullmatch, names)) or len(names) > _MOST_REPOSITORIES:
            raise Misconfigured(
                f"Give at most {_MOST_REPOSITORIES} repositories by their names, without the owner."
            )
        return cls(permissions, names)

    def narrowed(self, scopes: Sequence[str]) -> Self:
        """Return the rights for one run, all of them where none are named.

        Raises Misconfigured on more than the key has.
        """
        if not scopes:
            return self
        wanted = _permissions(scopes)
        for name, level in wanted.items():
            most = self.permissions.get(name)
            if most is None or _LEVELS.index(level) > _LEVELS.index(most):
                raise Misconfigured(f"The key has no permission {name}:{level}.")
        return type(self)(wanted, self.repositories)

    def body(self) -> dict[str, JSON]:
        """Return the request for a token with these rights."""
        body: dict[str, JSON] = {"permissions": dict(self.permissions)}
        if self.repositories:
            body["repositories"] = list(self.repositories)
        return body

    def public(self) -> dict[str, str]:
        """Return the rights as texts that may be shown."""
        named = [f"{name}:{level}" for name, level in self.permissions.items()]
        return {"permissions": " ".join(named), "repositories": " ".join(self.repositories)}


def longest_s(ctx: Context) -> int:
    """Return how many seconds a run may hold a token of a key. Raises Misconfigured."""
    text = str(ctx.options.get("longest_minutes") or LIFE_S // 60)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= LIFE_S // 60:
        raise Misconfigured(f"A run may hold a token for 1 to {LIFE_S // 60} minutes.")
    return int(text) * 60


def _permissions(words: Sequence[str]) -> dict[str, str]:
    found = [_PERMISSION.fullmatch(word) for word in words]
    permissions = {match[1]: match[2] for match in found if match is not None}
    if len(permissions) != len(words):
        raise Misconfigured("Give permissions such as contents:read issues:write, each once.")
    return permissions
