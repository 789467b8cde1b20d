"""The part of Cloudflare's API that deals with the tokens of one account.

Shapes are those of the vendor's Python library, `client.accounts.tokens`. The
endpoint that gives a token a new value in place (PUT …/value) is never used: it
ends the old value in the same call, so that a lost answer would be an outage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from keyvault.plugins.json_api import JsonApi, header_text, instant, segment
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
from keyvault.providers.cloudflare.schema import URL

ID = re.compile(r"[0-9a-f]{32}")
# The label that keyvault gives to its attempts; other names are other people's.
_TAG = re.compile(r"kv-[0-9a-f]+-[0-9]+")
_CURSOR = re.compile(r"([0-9]{1,6}):([0-9]{1,9})")
_PAGE = 50  # The vendor gives at most 50.
_MOST_PAGES = 200


@dataclass(frozen=True, slots=True)
class Account:
    """The tokens of one account, seen with one token: the Connection's, or an issued one."""

    api: JsonApi
    account_id: str

    @classmethod
    def of(cls, ctx: Context) -> Self:
        """Return the account of a call, seen with the Connection's token. Raises Misconfigured."""
        return cls.seen_with(ctx, header_text(ctx.admin.get("api_token"), "API token"))

    @classmethod
    def seen_with(cls, ctx: Context, token: str) -> Self:
        """Return the account of a call, seen with this token. Raises Misconfigured."""
        account_id = str(ctx.config.get("account") or "").strip()
        if not ID.fullmatch(account_id):
            raise Misconfigured("The account must be its id there: 32 of 0-9 and a-f.")
        base = str(ctx.config.get("url") or URL)
        headers = {"authorization": f"Bearer {token}", "user-agent": "keyvault"}
        return cls(JsonApi(ctx, base, headers), account_id)

    def permission_groups(self) -> Mapping[str, str]:
        """Return the names of the permission groups of this account by id."""
        entries = _listing(self.api.read(f"{self._path}/permission_groups"))
        return {str(entry.get("id")): str(entry.get("name") or "") for entry in entries}

    def create(self, body: Mapping[str, JSON]) -> Mapping[str, JSON]:
        """Make a token; the answer holds its value, this once. Raises Ambiguous."""
        answer = self.api.change("POST", self._path, body)
        result = answer.get("result")
        if answer.get("success") is not True or not isinstance(result, dict):
            raise Ambiguous("The API did not confirm that the token is made.")
        return result

    def read(self, token_id: str) -> RemoteKey:
        """Return one token. Raises NotFound."""
        return _key(_object(self.api.read(f"{self._path}/{segment(token_id)}")))

    def verify(self) -> tuple[str, str]:
        """Return the id and the state of the token that asks: active, disabled or expired."""
        result = _object(self.api.read(f"{self._path}/verify"))
        return str(result.get("id") or ""), str(result.get("status") or "")

    def delete(self, token_id: str) -> None:
        """End a token; an absent one counts as ended. Raises Ambiguous."""
        try:
            answer = self.api.change("DELETE", f"{self._path}/{segment(token_id)}")
        except NotFound:
            # A token of another account meets no such token either: that would end nothing.
            self.page(None)
            return
        if answer.get("success") is not True:
            raise Ambiguous("The API did not confirm that the token is deleted.")

    def page(self, cursor: str | None) -> Page[RemoteKey]:
        """Return one page of the account's tokens, oldest first. Raises Transient.

        The vendor counts pages, so that a token which ends meanwhile moves a later
        one onto a page that was read already: a listing during which the number of
        tokens falls is given up rather than believed.
        """
        number, before = _position(cursor)
        query: dict[str, str | int] = {"page": number, "per_page": _PAGE, "direction": "asc"}
        answer = self.api.read(self._path, query)
        keys = tuple(map(_key, _listing(answer)))
        total = _total(answer)
        if total is not None and total < before:
            raise Transient("The list of tokens changed while it was read.")
        is_last = len(keys) < _PAGE if total is None else number * _PAGE >= total or not keys
        return Page(keys, None if is_last else f"{number + 1}:{total or 0}")

    def every(self) -> Iterator[RemoteKey]:
        """Yield all tokens of the account, page by page. Raises Transient."""
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = self.page(cursor)
            yield from page.items
            if page.cursor is None:
                return
            cursor = page.cursor
        raise Transient("The list of tokens does not end.")

    @property
    def _path(self) -> str:
        return f"/accounts/{self.account_id}/tokens"


def _position(cursor: str | None) -> tuple[int, int]:
    """Return the page that a cursor stands for and how many tokens there were before it."""
    if cursor is None:
        return 1, 0
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise Misconfigured("This is no place in a list of tokens.")
    return int(found[1]), int(found[2])


def _object(answer: Mapping[str, JSON]) -> Mapping[str, JSON]:
    result = answer.get("result")
    if answer.get("success") is not True or not isinstance(result, dict):
        raise Transient("The API gave no usable answer; nothing was changed.")
    return result


def _listing(answer: Mapping[str, JSON]) -> list[Mapping[str, JSON]]:
    result = answer.get("result")
    is_usable = isinstance(result, list) and all(isinstance(entry, dict) for entry in result)
    if answer.get("success") is not True or not is_usable:
        raise Transient("The API gave no usable listing.")
    return list(result or ())


def _total(answer: Mapping[str, JSON]) -> int | None:
    info = answer.get("result_info")
    total = info.get("total_count") if isinstance(info, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) else None


def _key(entry: Mapping[str, JSON]) -> RemoteKey:
    token_id, name = str(entry.get("id") or ""), str(entry.get("name") or "")
    if not ID.fullmatch(token_id):
        raise Transient("The API gave no usable token.")
    return RemoteKey(
        token_id,
        tag=name if _TAG.fullmatch(name) else None,
        is_enabled=entry.get("status") == "active",
        created_at=instant(entry.get("issued_on")),
        last_used_at=instant(entry.get("last_used_on")),
        hint=name[:120],
    )
