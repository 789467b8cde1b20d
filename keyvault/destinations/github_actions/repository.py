"""The calls to GitHub's REST API that secrets and their mark need."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass

from nacl.public import PublicKey, SealedBox

from keyvault.destinations import mapping
from keyvault.destinations.base import Context, Misconfigured, NotFound, Transient
from keyvault.destinations.github_actions import schema
from keyvault.destinations.github_actions.mark import Mark
from keyvault.plugins.json_api import JsonApi, header_text, segment

_API_VERSION = "2022-11-28"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,38}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")
_NAME = re.compile(r"(?!(?i:GITHUB_))[A-Za-z_][A-Za-z0-9_]{0,199}")
_MOST_BYTES = 48_000  # GitHub's limit for one secret is 48 KB.


@dataclass(frozen=True, slots=True)
class PublicBox:
    """The public key of a place, to which values are sealed."""

    key_id: str
    public: PublicKey

    def seal(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return every value sealed anew, in base64. Raises Misconfigured on one too large."""
        if any(len(value.encode()) > _MOST_BYTES for value in values.values()):
            raise Misconfigured("GitHub takes at most 48 KB for one secret.")
        return {
            name: b64encode(bytes(SealedBox(self.public).encrypt(value.encode()))).decode()
            for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Repository:
    """The secrets of a repository or environment, by part of a version, and their mark.

    Errors are those of JsonApi.
    """

    api: JsonApi
    root: str
    entries: Mapping[str, str]

    @classmethod
    def read(cls, ctx: Context) -> Repository:
        """Read the target and the token. Raises Misconfigured."""
        repository = str(ctx.options.get("repository") or "").strip()
        environment = str(ctx.options.get("environment") or "").strip()
        if not _REPOSITORY.fullmatch(repository):
            raise Misconfigured("Write the repository as OWNER/NAME.")
        if environment in {".", ".."}:
            raise Misconfigured("No environment can have this name.")
        under = f"environments/{segment(environment)}" if environment else "actions"
        found = mapping.parse(str(ctx.options.get("entries") or ""), _NAME)
        if len({name.upper() for name in found.values()}) < len(found):
            raise Misconfigured("GitHub takes names that differ only in case for one secret.")
        url = str(ctx.config.get("url") or schema.DEFAULT_URL)
        return cls(JsonApi(ctx, url, _headers(ctx)), f"/repos/{repository}/{under}", found)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the secrets."""
        return tuple(self.entries.values())

    def public_key(self) -> PublicBox:
        """Return the key to seal to. Raises NotFound where the token sees no such place."""
        try:
            found = self.api.read(f"{self.root}/secrets/public-key")
        except NotFound:
            raise NotFound("No such repository or environment for this token.") from None
        try:
            public = PublicKey(b64decode(str(found["key"]), validate=True))
            return PublicBox(str(found["key_id"]), public)
        except (KeyError, ValueError, TypeError):
            raise Transient("GitHub gave no usable public key; nothing was changed.") from None

    def written(self) -> dict[str, str]:
        """Return when each secret that exists was last written."""
        found: dict[str, str] = {}
        for name in self.names:
            try:
                found[name] = str(self.api.read(self._secret(name)).get("updated_at", ""))
            except NotFound:
                continue
        return found

    def write(self, name: str, box: str, key: PublicBox) -> None:
        """Write one secret, sealed to `key`."""
        self.api.change("PUT", self._secret(name), {"encrypted_value": box, "key_id": key.key_id})

    def delete(self, name: str) -> None:
        """Delete one secret; an absent one counts as deleted."""
        self._delete(self._secret(name))

    def mark(self) -> Mark | None:
        """Return what the mark says, or None where there is none of ours."""
        try:
            return Mark.read(str(self.api.read(self._variable()).get("value", "")))
        except NotFound:
            return None

    def set_mark(self, mark: Mark) -> None:
        """Write the mark, whether it exists or not."""
        try:
            self.api.change("PATCH", self._variable(), {"value": mark.text()})
        except NotFound:
            body = {"name": self._mark_name(), "value": mark.text()}
            self.api.change("POST", f"{self.root}/variables", body)

    def delete_mark(self) -> None:
        """Delete the mark; an absent one counts as deleted."""
        self._delete(self._variable())

    def _delete(self, path: str) -> None:
        try:
            self.api.change("DELETE", path)
        except NotFound:
            return

    def _secret(self, name: str) -> str:
        return f"{self.root}/secrets/{segment(name)}"

    def _variable(self) -> str:
        return f"{self.root}/variables/{self._mark_name()}"

    def _mark_name(self) -> str:
        """Name the mark by the first entry, so that several keys have theirs side by side."""
        return f"KEYVAULT_{min(name.upper() for name in self.names)}"


def _headers(ctx: Context) -> dict[str, str]:
    token = header_text(ctx.admin.get("token"), "access token")
    return {
        "authorization": f"Bearer {token}",
        "accept": "application/vnd.github+json",
        "x-github-api-version": _API_VERSION,
        "user-agent": "keyvault",
    }
