"""Speak to one KV engine of version 2, call by call.

Source: the HTTP API of OpenBao, "KV secrets engine - version 2".
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from keyvault.destinations.base import (
    JSON,
    Conflict,
    Context,
    Misconfigured,
    NotFound,
    Reply,
    Transient,
)
from keyvault.plugins.json_api import JsonApi, header_text, require_ok, segment

_ABSENT = 404
_MERGE = {"content-type": "application/merge-patch+json"}


@dataclass(frozen=True, slots=True)
class Entry:
    """What a path holds now.

    `number` is the engine's newest version of it, 0 where there never was one;
    `is_there` is false where that version was deleted.
    """

    number: int
    is_there: bool
    data: Mapping[str, JSON] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Engine:
    """The KV engine of one Connection, within one call."""

    api: JsonApi
    mount: str

    @classmethod
    def of(cls, ctx: Context) -> Engine:
        """Return the engine that the context names. Raises Misconfigured."""
        headers = {"x-vault-token": header_text(ctx.admin.get("token"), "token")}
        namespace = str(ctx.config.get("namespace") or "").strip("/")
        if namespace:
            headers["x-vault-namespace"] = quoted(namespace)
        address, ca = str(ctx.config.get("address") or ""), str(ctx.config.get("ca") or "")
        mount = quoted(str(ctx.config.get("mount") or "secret").strip("/"))
        return cls(JsonApi(ctx, address.strip().rstrip("/"), headers, ca), mount)

    def read(self, path: str) -> Entry:
        """Return what a path holds. Raises Denied, Misconfigured, Transient.

        A deleted version answers 404 and still tells its number, which the next write must name.
        """
        api = self.api
        api.ctx.remaining()
        url = f"{api.base}/v1/{self.mount}/data/{quoted(path)}"
        reply = api.ctx.http.request("GET", url, headers=api.headers, ca=api.ca)
        if reply.status != _ABSENT:
            require_ok(reply, is_change=False)
        found = _inner(reply)
        number = _number(found.get("metadata"))
        data = found.get("data")
        if reply.status == _ABSENT:
            return Entry(number or 0, is_there=False)
        if number is None or not isinstance(data, dict):
            raise Misconfigured("The mount gives no versions: it is no KV engine of version 2.")
        return Entry(number, is_there=True, data=data)

    def write(self, path: str, data: Mapping[str, JSON], seen: Entry) -> None:
        """Write a secret as a whole, if its newest version is still the one seen.

        Raises Conflict when it is not; Denied, NotFound, Misconfigured, Transient, Ambiguous.
        """
        self._change("POST", path, data, seen)

    def merge(self, path: str, patch: Mapping[str, JSON], seen: Entry) -> None:
        """Change some fields of a secret (RFC 7396); raises as `write` does."""
        self._change("PATCH", path, patch, seen)

    def forget(self, path: str) -> None:
        """Destroy a secret with all its versions; an absent one counts as destroyed."""
        try:
            self.api.change("DELETE", f"/v1/{self.mount}/metadata/{quoted(path)}")
        except NotFound:
            return

    def kind(self) -> tuple[str, str]:
        """Return what is mounted: a type and the version among its options."""
        answer = self.api.read(f"/v1/sys/internal/ui/mounts/{self.mount}")
        about = answer.get("data") or {}
        return str(about.get("type")), str((about.get("options") or {}).get("version"))

    def rights(self, paths: Collection[str]) -> Mapping[str, Collection[str]]:
        """Return what the token may do, by path below the mount. This POST changes nothing."""
        full = {f"{self.mount}/{path}": path for path in paths}
        answer = self.api.change("POST", "/v1/sys/capabilities-self", {"paths": list(full)})
        found = answer.get("data") or {}
        return {path: found.get(name) or () for name, path in full.items()}

    def _change(self, method: str, path: str, data: Mapping[str, JSON], seen: Entry) -> None:
        api = self.api
        if method == "PATCH":
            api = JsonApi(api.ctx, api.base, {**api.headers, **_MERGE}, api.ca)
        body = {"options": {"cas": seen.number}, "data": data}
        try:
            api.change(method, f"/v1/{self.mount}/data/{quoted(path)}", body)
        except Misconfigured:
            # A 400 says in words alone that `cas` did not fit, and words are not read: look.
            if self.read(path).number != seen.number:
                raise Conflict("Somebody else changed the secret in this moment.") from None
            raise


def quoted(text: str) -> str:
    """Return a path with each of its segments quoted. Raises Misconfigured on odd ones."""
    parts = text.split("/")
    if not all(parts) or {".", ".."} & set(parts) or not text.isprintable():
        raise Misconfigured("Give mount and path in one spelling, such as apps/orders.")
    return "/".join(segment(part) for part in parts)


def _inner(reply: Reply) -> Mapping[str, JSON]:
    """Return the part `data` of an answer, empty where an absent path answers without one."""
    try:
        answer = json.loads(reply.body)
    except (ValueError, RecursionError):
        raise Transient("The server gave no usable answer; nothing was changed.") from None
    found = answer.get("data") if isinstance(answer, dict) else None
    return found if isinstance(found, dict) else {}


def _number(metadata: JSON) -> int | None:
    found = metadata.get("version") if isinstance(metadata, dict) else None
    return found if isinstance(found, int) else None
