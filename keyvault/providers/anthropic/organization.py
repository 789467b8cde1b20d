"""The part of Anthropic's Admin API that deals with API keys. It has no call that makes one.

Shapes are those of the vendor's Python library, `client.organization.api_keys`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from keyvault.plugins.json_api import JsonApi, header_text, instant, segment
from keyvault.providers import paging
from keyvault.providers.anthropic.schema import URL
from keyvault.providers.base import JSON, Context, Misconfigured, Page, RemoteKey, Transient

ID = re.compile(r"[A-Za-z0-9_-]{1,100}")
# The label that keyvault gives to its attempts; other names are other people's.
_TAG = re.compile(r"kv-[0-9a-f]+-[0-9]+")
_KEYS = "/v1/organizations/api_keys"
_VERSION = "2026-10-21"
_PAGE = 100
_BETWEEN = "..."


@dataclass(frozen=True, slots=True)
class Listed:
    """One key as the organisation lists it, with what tells its value from others."""

    key: RemoteKey
    status: str
    expires_at: datetime | None

    def fits(self, value: str) -> bool:
        """Say whether a value begins and ends as the vendor's hint does (sk-ant-api03-R2D...igAA).

        A key without a hint fits nothing: what was pasted could be any other key.
        """
        start, between, end = self.key.hint.partition(_BETWEEN)
        shown = len(start) + len(end)
        return bool(between and start and end) and (
            len(value) > shown and value.startswith(start) and value.endswith(end)
        )


@dataclass(frozen=True, slots=True)
class Organization:
    """One organisation, reached with the admin key of its Connection."""

    api: JsonApi
    workspace: str

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Return the organisation of a call. Raises Misconfigured."""
        admin = header_text(ctx.admin.get("admin_key"), "admin key")
        workspace = str(ctx.config.get("workspace") or "").strip()
        if workspace and not ID.fullmatch(workspace):
            raise Misconfigured("The workspace must be its id: letters, digits, _ and -.")
        return cls(api(ctx, admin), workspace)

    def key(self, key_id: str) -> Listed:
        """Return one key. Raises NotFound."""
        return _listed(self.api.read(f"{_KEYS}/{segment(key_id)}"))

    def set_status(self, key_id: str, status: str) -> None:
        """Set a key to active, inactive or archived. Raises NotFound."""
        self.api.change("POST", f"{_KEYS}/{segment(key_id)}", {"status": status})

    def page(self, after: str | None, *, limit: int = _PAGE) -> Page[Listed]:
        """Return one page of the keys of any status."""
        query: dict[str, str | int] = {"limit": limit}
        if self.workspace:
            query["workspace_id"] = self.workspace
        if after is not None:
            query["after_id"] = after
        return paging.page(self.api.read(_KEYS, query), after, _listed)

    def every_key(self) -> Iterator[Listed]:
        """Yield all keys, page by page."""
        return paging.every(self.page)


def api(ctx: Context, key: str) -> JsonApi:
    """Return the API as seen with one key, an admin's or an ordinary one."""
    base = str(ctx.config.get("url") or URL)
    return JsonApi(ctx, base, {"x-api-key": key, "anthropic-version": _VERSION})


def _listed(entry: JSON) -> Listed:
    if not isinstance(entry, dict) or not ID.fullmatch(str(entry.get("id", ""))):
        raise Transient("The API gave no usable key.")
    name, status = str(entry.get("name") or ""), str(entry.get("status") or "")
    key = RemoteKey(
        str(entry["id"]),
        tag=name if _TAG.fullmatch(name) else None,
        is_enabled=status == "active",
        created_at=instant(entry.get("created_at")),
        hint=str(entry.get("partial_key_hint") or ""),
    )
    return Listed(key, status, instant(entry.get("expires_at")))
