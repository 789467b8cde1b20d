"""Programs that use a key all the time and follow it: `python -m tests.load.consumers KEY RATE`.

The first line on standard input is JSON: "agents" (name to secret) and "shelves"
(see `tests.load.shelves`). Each agent holds one
connection to the key's own server and sends requests over it. It asks its
gateway for the key now and then, opens a new connection when the version has
moved, closes the old one, and says by heartbeat which version it uses. Ends
when standard input closes; then prints what it counted.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from typing import Protocol

import psycopg
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from keyvault.client import AsyncClient, Away, BadIdentity, Refused
from keyvault.client.values import Value
from tests.load import shelves

BEAT_S, REFRESH_S = 1.0, 0.5


class Session(Protocol):
    """One connection with one version of the credential."""

    async def use(self) -> None:
        """Send one request. Raises the library's own errors."""

    async def close(self) -> None:
        """Close the connection."""


class Postgres:
    """A session of a database role."""

    def __init__(self, link: psycopg.AsyncConnection) -> None:
        self.link = link

    @classmethod
    async def open(cls, value: Value) -> Postgres:
        """Log in."""
        said = value.public
        link = await psycopg.AsyncConnection.connect(
            host=said["host"],
            port=said["port"],
            dbname=said["database"],
            user=said["username"],
            password=value.reveal(),
            sslmode="disable",
            autocommit=True,
        )
        return cls(link)

    async def use(self) -> None:
        """Ask for a number."""
        await self.link.execute("SELECT 1")

    async def close(self) -> None:
        """Log out."""
        await self.link.close()


class Valkey:
    """A session of an ACL user."""

    def __init__(self, link: redis.Redis) -> None:
        self.link = link

    @classmethod
    async def open(cls, value: Value) -> Valkey:
        """Log in."""
        said = value.public
        link = redis.Redis(
            host=said["host"],
            port=int(said["port"]),
            username=said["username"],
            password=value.reveal(),
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )
        await link.ping()
        return cls(link)

    async def use(self) -> None:
        """Write and read a key."""
        await self.link.set("app:seen", "1")

    async def close(self) -> None:
        """Log out."""
        await self.link.aclose()


async def opened(value: Value) -> Session:
    """Log in at the server that a value is for: only a role is of a database."""
    return await (Postgres if "database" in value.public else Valkey).open(value)


class Consumer:
    """One agent at work."""

    def __init__(self, name: str, secret: str, key: str, rate: float, count: Counter) -> None:
        self.key, self.pause, self.count = key, 1 / rate, count
        self.client = AsyncClient(
            os.environ["KEYVAULT_URL"], client_id=name, client_secret=secret, refresh_s=REFRESH_S
        )
        self.session, self.version = None, 0

    async def work(self, stop: asyncio.Event, delay: float) -> None:
        """Use the key until `stop`. What fails is counted by its kind and tried with a new login."""
        await asyncio.sleep(delay)
        loop = asyncio.get_running_loop()
        beat_at = next_at = loop.time()
        async with self.client:
            while not stop.is_set():
                await self._request()
                if loop.time() >= beat_at:
                    beat_at = loop.time() + BEAT_S
                    await self._beat()
                next_at = max(next_at + self.pause, loop.time() - 1)
                await asyncio.sleep(max(0, next_at - loop.time()))
            if self.session:
                await self.session.close()

    async def _request(self) -> None:
        try:
            await self._follow()
            await self.session.use()
            self.count["served"] += 1
        except Away:
            self.count["gateway away"] += 1
        except (BadIdentity, Refused) as error:
            self.count[f"refused: {error}"] += 1
        except (psycopg.Error, RedisError, OSError) as error:
            self.count["failed"] += 1
            self.count[f"{type(error).__name__} with version {self.version}"] += 1
            self.version, self.session = 0, None

    async def _follow(self) -> None:
        value = await self.client.get(self.key)
        if value.version == self.version:
            return
        before, self.session = self.session, await opened(value)
        self.version = value.version
        self.count["logins"] += 1
        if before:
            await before.close()

    async def _beat(self) -> None:
        try:
            await self.client.heartbeat()
        except (Away, BadIdentity, Refused) as error:
            self.count[f"heartbeat lost: {type(error).__name__}"] += 1


async def main() -> None:
    """Work until standard input closes."""
    key, rate = sys.argv[1], float(sys.argv[2])
    said = json.loads(sys.stdin.readline())
    agents = said["agents"]
    count, stop = Counter(), asyncio.Event()
    consumers = [Consumer(name, secret, key, rate, count) for name, secret in agents.items()]
    step = 1 / rate / len(consumers)
    async with asyncio.TaskGroup() as group:
        for number, one in enumerate(consumers):
            group.create_task(one.work(stop, 1 + number * step))
        for one in said["shelves"]:
            reader = shelves.Reader(shelves.shelf(one), opened, rate, count)
            group.create_task(reader.work(stop, (psycopg.Error, RedisError, OSError)))
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
    sys.stdout.write(json.dumps(count))


if __name__ == "__main__":
    asyncio.run(main())
