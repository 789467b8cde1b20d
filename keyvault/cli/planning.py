"""Ask the server for what is, and compare it with what a file declares.

Everything that can be said before anything is changed is said here, with the
line of the file: a key or an agent that is not there for the caller, and what
the caller may not change.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from keyvault.cli import declared, planned, printing
from keyvault.cli.codes import Exit
from keyvault.cli.declared import DeclaredKey
from keyvault.cli.planned import Plan, Seen
from keyvault.launcher.sentences import Stop

if TYPE_CHECKING:
    from keyvault.client import Client
    from keyvault.client.calls import Answer, Flow

JSON = Any
_Waiting = tuple[Mapping[str, JSON], Mapping[str, JSON]]
_CHANGES = ("key.change", "key.change_many")
_UNDECIDED = ("pending", "changes_asked")
_ROTATE, _MANAGE = "rotate", "manage"
_PAGE, _PAGES = "200", 25
# A file of many keys is read faster than a caller may call; so often it waits and goes on.
_PATIENCE, _MOST_WAIT_S = 30, 30.0


def of(client: Client, path: Path) -> Plan:
    """Return what a file changes. Raises Stop."""
    keys = declared.read(path)
    reader = _Reader(client, str(path))
    waiting = list(reader.waiting())
    seen = {one.name: found for one in keys if (found := reader.seen(one, waiting)) is not None}
    reader.require_agents([one for one in keys if one.name in seen], seen)
    if reader.faults:
        raise Stop("\n  ".join(map(printing.plain, reader.faults)), code=Exit.REFUSED)
    return planned.plan(keys, seen)


def key_path(name: str) -> str:
    """Return the address of a key below that of the API."""
    return f"/keys/{quote(name, safe='')}"


class _Reader:
    """Reads what is, and collects what stands in the way."""

    def __init__(self, client: Client, where: str) -> None:
        self._client, self._where = client, where
        self.faults: list[str] = []

    def seen(self, one: DeclaredKey, waiting: Sequence[_Waiting]) -> Seen | None:
        """Return a key as it is, or None after noting why it cannot be planned."""
        from keyvault.client import NotGranted  # noqa: PLC0415 - with it come sockets and TLS.

        try:
            answer = self._read(key_path(one.name))
        except NotGranted:
            near = declared.nearest(one.name, list(self._names("/keys")))
            self._fault(one, f"there is no key of this name for you.{near}")
            return None
        key = answer.json()
        self._require_right(one, key)
        listed: Mapping[str, JSON] = {}
        etag = ""
        if one.dependents is not None:
            found = self._read(f"{key_path(one.name)}/dependents")
            listed, etag = found.json(), found.headers.get("etag", "")
        wanted = {"key_id": key["id"], "use": planned.wanted_use(one, key)}
        waits = next((row for row, asked in waiting if asked == wanted), None)
        return Seen(key, answer.headers.get("etag", ""), listed.get("items", ()), etag, waits)

    def waiting(self) -> Iterator[_Waiting]:
        """Yield each request of the caller's that waits, with each key's use that it asks for.

        Of one that is under way the server knows by itself.
        """
        for kind, state in product(_CHANGES, _UNDECIDED):
            for row in self._pages("/requests", kind=kind, state=state):
                body = row["plan"]["body"]
                for one in body.get("uses", [body]):
                    yield row, {"key_id": one["key_id"], "use": one["use"]}

    def require_agents(self, keys: Sequence[DeclaredKey], seen: Mapping[str, Seen]) -> None:
        """Note each agent that is declared and that the caller does not see."""
        unseen = [
            (one, row["agent"])
            for one in keys
            for row in one.dependents or ()
            if row["agent"] and row["agent"] not in _agents(seen[one.name])
        ]
        known = set(self._names("/agents")) if unseen else set()
        for one, agent in unseen:
            if agent not in known:
                near = declared.nearest(agent, sorted(known))
                self._fault(one, f"there is no agent {agent} for you.{near}")

    def _require_right(self, one: DeclaredKey, key: Mapping[str, JSON]) -> None:
        """Note what the caller may not change, and what nobody can change any more."""
        rights = key["permissions"]
        if one.dependents is not None and _ROTATE not in rights:
            self._fault(one, "you may not have it rotated, so its dependents are not yours to say.")
        if (one.use or one.title is not None) and _MANAGE not in rights:
            self._fault(one, "you may not have it changed.")
        if key["state"] == "revoked":
            self._fault(one, "it was revoked. Take it out of the file.")

    def _names(self, path: str) -> Iterator[str]:
        return (str(row["name"]) for row in self._pages(path))

    def _pages(self, path: str, **query: str) -> Iterator[Mapping[str, JSON]]:
        cursor = ""
        for _ in range(_PAGES):
            more = {"cursor": cursor} if cursor else {}
            found = self._read(path, limit=_PAGE, **query, **more).json()
            yield from found["items"]
            cursor = found["next_cursor"] or ""
            if not cursor:
                return

    def _read(self, path: str, **query: str) -> Answer:
        return patiently(lambda: self._client.core.answer("GET", path, query=query), self._client)

    def _fault(self, one: DeclaredKey, text: str) -> None:
        self.faults.append(f"{self._where}:{one.line}: {one.name}: {text}")


def _agents(seen: Seen) -> set[str]:
    """Return the agents that are among those who use a key already."""
    return {row["agent"] for row in seen.dependents}


def patiently(
    flow: Callable[[], Flow[Answer]], client: Client, *, is_write: bool = False
) -> Answer:
    """Run a flow again where the server asks to wait. Raises Away.

    is_write: it is made twice only where the first call has certainly done nothing.
    """
    from keyvault.client import Away  # noqa: PLC0415 - with it come sockets and TLS.

    for _ in range(_PATIENCE):
        try:
            return client.do(flow())
        except Away as away:
            if not away.retry_after_s or (is_write and not away.is_undone):
                raise
            time.sleep(min(away.retry_after_s, _MOST_WAIT_S))
    return client.do(flow())
