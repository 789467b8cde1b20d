"""Programs that read a key where keyvault lays it, in a file or in OpenBao, and follow it there."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

LOOK_S = 0.2


class Shelf(Protocol):
    """Where a program reads its credential."""

    async def read(self) -> Mapping[str, str]:
        """Return the parts of the credential that lie there now."""


@dataclass
class File:
    """An env file without quotes."""

    path: Path

    async def read(self) -> Mapping[str, str]:
        """Read the file as a whole."""
        lines = await asyncio.to_thread(self.path.read_text)
        pairs = (line.partition("=") for line in lines.splitlines() if not line.startswith("#"))
        return {name.lower(): value for name, _, value in pairs}


class Bao:
    """A secret of a KV engine, version 2."""

    def __init__(self, url: str, token: str, path: str) -> None:
        self.path = path
        self.client = httpx.AsyncClient(base_url=url, headers={"X-Vault-Token": token})

    async def read(self) -> Mapping[str, str]:
        """Read the current version of the secret."""
        found = await self.client.get(f"/v1/secret/data/{self.path}")
        return found.raise_for_status().json()["data"]["data"]


@dataclass(frozen=True)
class Shown:
    """A credential as the sessions of `consumers` take it."""

    public: Mapping[str, str]

    def reveal(self) -> str:
        """Return the password."""
        return self.public["password"]


class Reader:
    """One program that uses what lies on a shelf. It reads there five times a second."""

    def __init__(self, shelf: Shelf, open_session: Any, rate: float, count: Counter) -> None:
        self.shelf, self.open, self.pause, self.count = shelf, open_session, 1 / rate, count
        self.session, self.shown, self.looked_at = None, None, 0.0

    async def work(self, stop: asyncio.Event, errors: tuple[type[Exception], ...]) -> None:
        """Use the credential until `stop`. What fails is counted and tried with a new login."""
        while not stop.is_set():
            try:
                await self._follow()
                await self.session.use()
                self.count["served"] += 1
                self.count["served from a place"] += 1
            except errors as error:
                self.count["failed"] += 1
                self.count[f"{type(error).__name__} at a place"] += 1
                self.session = self.shown = None
            await asyncio.sleep(self.pause)
        if self.session:
            await self.session.close()

    async def _follow(self) -> None:
        if self.session and time.monotonic() - self.looked_at < LOOK_S:
            return
        self.looked_at = time.monotonic()
        found = await self.shelf.read()
        if found == self.shown:
            return
        before, self.session = self.session, await self.open(Shown(found))
        self.shown = found
        self.count["logins"] += 1
        if before:
            await before.close()


def shelf(said: Mapping[str, str]) -> Shelf:
    """Return the shelf that a line of standard input names."""
    if said["kind"] == "file":
        return File(Path(said["path"]))
    return Bao(said["url"], said["token"], said["path"])
