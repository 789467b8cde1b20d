"""The part of OpenAI's administration API that deals with one project and its keys.

Shapes are those of the vendor's Python library, `client.admin.organization.projects`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from keyvault.plugins.json_api import JsonApi, header_text, segment
from keyvault.providers import paging
from keyvault.providers.base import (
    JSON,
    Ambiguous,
    Context,
    Misconfigured,
    NotFound,
    Page,
    RemoteKey,
    Transient,
)
from keyvault.providers.openai.schema import URL

ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# The label that keyvault gives to its attempts; other names are other people's.
_TAG = re.compile(r"kv-[0-9a-f]+-[0-9]+")
_PAGE = 100


@dataclass(frozen=True, slots=True)
class Project:
    """One project, reached with the admin key of its Connection."""

    api: JsonApi
    project_id: str

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Return the project of a call. Raises Misconfigured."""
        admin = header_text(ctx.admin.get("admin_key"), "admin key")
        return cls(api(ctx, admin), plain_id(ctx.config.get("project"), "project"))

    def read(self) -> Mapping[str, JSON]:
        """Return the project. Raises Misconfigured where the admin key sees none of this id."""
        try:
            return self.api.read(self._path)
        except NotFound:
            raise Misconfigured(f"The admin key sees no project {self.project_id} there.") from None

    def require_service_account(self, account_id: str) -> None:
        """Raise NotFound unless the project has this service account."""
        try:
            self.api.read(f"{self._path}/service_accounts/{segment(account_id)}")
        except NotFound:
            raise NotFound(
                f"Project {self.project_id} has no service account {account_id}."
            ) from None

    def create_key(self, account_id: str, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Make a key of a service account; the answer holds its value, this once."""
        path = f"{self._path}/service_accounts/{segment(account_id)}/api_keys"
        return self.api.change("POST", path, body)

    def key(self, key_id: str) -> RemoteKey:
        """Return one key. Raises NotFound."""
        return _key(self.api.read(f"{self._path}/api_keys/{segment(key_id)}"))

    def delete_key(self, key_id: str) -> None:
        """End a key. Raises NotFound, and Ambiguous where the answer does not confirm it."""
        answer = self.api.change("DELETE", f"{self._path}/api_keys/{segment(key_id)}")
        if answer.get("deleted") is not True:
            raise Ambiguous("The API did not confirm that the key is deleted.")

    def page(self, after: str | None, *, limit: int = _PAGE) -> Page[RemoteKey]:
        """Return one page of the project's keys, whoever owns them.

        `owner_project_access=any` matters: without it the vendor leaves out keys whose
        owner has no access just now, and an orphan among them would never be found.
        """
        query: dict[str, str | int] = {"limit": limit, "owner_project_access": "any"}
        if after is not None:
            query["after"] = after
        return paging.page(self.api.read(f"{self._path}/api_keys", query), after, _key)

    def every_key(self) -> Iterator[RemoteKey]:
        """Yield all keys of the project, page by page."""
        return paging.every(self.page)

    @property
    def _path(self) -> str:
        return f"/v1/organization/projects/{segment(self.project_id)}"


def api(ctx: Context, key: str) -> JsonApi:
    """Return the API as seen with one key, an admin's or a service account's."""
    base = str(ctx.config.get("url") or URL)
    return JsonApi(ctx, base, {"authorization": f"Bearer {key}"})


def plain_id(value: JSON, what: str) -> str:
    """Return an id that may stand in a path. Raises Misconfigured."""
    text = str(value or "").strip()
    if not ID.fullmatch(text):
        raise Misconfigured(f"The {what} must be its id there: letters, digits, _ and -.")
    return text


def moment(seconds: JSON) -> datetime | None:
    """Return a time given in seconds since 1970, or None for none."""
    return datetime.fromtimestamp(seconds, tz=UTC) if isinstance(seconds, int | float) else None


def _key(entry: JSON) -> RemoteKey:
    """Return a listed key. Whether it works is left open while its owner has no access."""
    if not isinstance(entry, dict) or not ID.fullmatch(str(entry.get("id", ""))):
        raise Transient("The API gave no usable key.")
    name = str(entry.get("name") or "")
    return RemoteKey(
        str(entry["id"]),
        tag=name if _TAG.fullmatch(name) else None,
        is_enabled=None if entry.get("owner_project_access") == "inactive" else True,
        created_at=moment(entry.get("created_at")),
        last_used_at=moment(entry.get("last_used_at")),
        hint=str(entry.get("redacted_value") or ""),
    )
