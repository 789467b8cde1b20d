"""A provider plug-in for keyvault: the keys of Example Inc., an imaginary vendor.

Its API, under an address that the Connection names:

    POST /keys {"name": …}     201 {"id": …, "value": …}   the value is shown this once
    GET /keys?page=N           200 {"keys": [{"id": …, "name": …}], "pages": …}
    DELETE /keys/{id}          200 {"deleted": true}, or 404
    GET /me                    200 {"key": id} for a key that works, 401 for another
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from keyvault.crypto.secret import Secret
from keyvault.plugins.json_api import JsonApi, NotAccepted, header_text, segment
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
    Context,
    Field,
    Issued,
    NotFound,
    Page,
    Problem,
    ProviderError,
    Recovery,
    RemoteKey,
    Shape,
    Transient,
    Validation,
    Verdict,
    tag_of,
)

_TAG = re.compile(r"kv-[0-9a-f]+-[0-9]+")


class Example:
    """Issues one key per credential, named by its attempt. No state: one instance serves all calls."""

    kind: ClassVar[str] = "example"
    title: ClassVar[str] = "Example Inc. key"
    config_schema: ClassVar[Sequence[Field]] = (
        # A version is ended only where what names the server is as it was when it was issued.
        Field("url", "API address", default="https://api.example.com", names_server=True),
    )
    material_schema: ClassVar[Sequence[Field]] = (Field("admin", "Admin key", kind="secret"),)
    options_schema: ClassVar[Sequence[Field]] = ()

    def capabilities(self, ctx: Context) -> Capabilities:
        """Return keys side by side; after a lost answer the key is found by its name."""
        del ctx
        return Capabilities(Shape.MULTI, Recovery.TAGGED)

    def check(self, ctx: Context) -> list[Problem]:
        """List the first page."""
        try:
            _page(ctx, 1)
        except ProviderError as error:
            return [Problem(error.sentence, "Correct the Connection.")]
        return []

    def prepare(self, ctx: Context, op_id: str, number: int, current: Issued | None) -> Attempt:
        """Plan one create, by reading only."""
        del current
        _page(ctx, 1)
        return Attempt(op_id, number, tag_of(op_id, number))

    def create(self, ctx: Context, attempt: Attempt) -> Issued:
        """Make the key. An answer of no use is Ambiguous: the key may be there."""
        made = _admin(ctx).change("POST", "/keys", {"name": attempt.tag})
        remote_id, value = made.get("id"), made.get("value")
        if not isinstance(remote_id, str) or not isinstance(value, str) or not value:
            raise Ambiguous("The API answered without the id or the value of the new key.")
        return Issued(remote_id, tag=attempt.tag, material={"api_key": Secret.of(value)})

    def find(self, ctx: Context, attempt: Attempt) -> list[RemoteKey]:
        """Return the keys that bear the attempt's name, on whatever page."""
        return [key for key in _every(ctx) if key.tag == attempt.tag]

    def validate(self, ctx: Context, issued: Issued) -> Validation:
        """Use the key once. Only the API's own word is a verdict, never an outage."""
        try:
            key = header_text(issued.material.get("api_key"), "key")
            _api(ctx, key).read("/me")
        except NotAccepted:
            return Validation(Verdict.INVALID, issued.remote_id, "The API does not accept the key.")
        except ProviderError:
            return Validation(Verdict.UNKNOWN, issued.remote_id, "The API gave no clear answer.")
        return Validation(Verdict.VALID, issued.remote_id, "The API knows the key.")

    def revoke(self, ctx: Context, key: RemoteKey, *, kill_sessions: bool) -> None:
        """Delete the key. One that is gone counts as ended, where the list is what answers."""
        del kill_sessions
        try:
            _admin(ctx).change("DELETE", f"/keys/{segment(key.remote_id)}")
        except NotFound:
            _page(ctx, 1)

    def inventory(self, ctx: Context, cursor: str | None) -> Page[RemoteKey]:
        """Return one page of all keys there."""
        return _page(ctx, int(cursor or "1"))


def _every(ctx: Context) -> Iterator[RemoteKey]:
    cursor: str | None = "1"
    while cursor is not None:
        page = _page(ctx, int(cursor))
        yield from page.items
        cursor = page.cursor


def _page(ctx: Context, number: int) -> Page[RemoteKey]:
    answer = _admin(ctx).read("/keys", {"page": number})
    keys, pages = answer.get("keys"), answer.get("pages")
    if not isinstance(keys, list) or not isinstance(pages, int):
        # Nonsense is no empty list: keyvault would take living keys for dead.
        raise Transient("The API gave no usable list.")
    return Page(tuple(map(_key, keys)), str(number + 1) if number < pages else None)


def _key(entry: object) -> RemoteKey:
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        raise Transient("The API gave no usable key.")
    name = str(entry.get("name"))
    return RemoteKey(entry["id"], tag=name if _TAG.fullmatch(name) else None, is_enabled=True)


def _admin(ctx: Context) -> JsonApi:
    return _api(ctx, header_text(ctx.admin.get("admin"), "admin key"))


def _api(ctx: Context, key: str) -> JsonApi:
    """Return the API as one key sees it. All requests pass the egress guard behind `ctx.http`."""
    return JsonApi(ctx, str(ctx.config["url"]), {"authorization": f"Bearer {key}"})
