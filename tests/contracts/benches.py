"""Benches that put the built-in providers before real servers, with faults on demand."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import Call, call
from keyvault.providers.base import Issued, Provider
from keyvault.providers.postgresql import PostgreSQL
from keyvault.providers.testing import Fault, FaultProxy
from keyvault.providers.valkey import Valkey
from tests.contracts.servers import PostgresTarget, ValkeyTarget


@dataclass
class ProxyBench:
    """A provider behind a fault proxy. `change` is what the bytes of a change contain."""

    provider: Provider
    proxy: FaultProxy
    config: Mapping[str, Any]
    options: Mapping[str, Any]
    admin: Mapping[str, Secret]
    commit: bytes
    statement: bytes
    allowed: list[str] = field(default_factory=list)

    def call(self, *, timeout_s: float = 10.0) -> Call:
        return self.call_as(self.admin, timeout_s=timeout_s)

    def call_as(self, admin: Mapping[str, Secret], *, timeout_s: float = 10.0) -> Call:
        guard = outbound.Guard((outbound.Allowance.parse(f"127.0.0.1:{self.proxy.port}"),))
        return call(
            guard,
            timeout_s=timeout_s,
            config={**self.config, "host": "127.0.0.1", "port": self.proxy.port},
            options=self.options,
            admin=admin,
        )

    def lose_request(self):
        return self.proxy.failing(Fault.LOSE_REQUEST, self.commit)

    def lose_answer(self):
        return self.proxy.failing(Fault.LOSE_ANSWER, self.commit)

    def hang(self):
        return self.proxy.failing(Fault.HANG)

    def down(self):
        return self.proxy.failing(Fault.LOSE_REQUEST)

    def hostile(self, words: Sequence[bytes]):
        return self.proxy.failing(Fault.REPLY, self.statement, self.refusal(b" ".join(words)))

    def refusal(self, text: bytes) -> bytes:
        raise NotImplementedError

    def struck(self) -> int:
        return self.proxy.hits

    def admin_secrets(self) -> list[bytes]:
        return [secret.reveal() for secret in self.admin.values()]


@dataclass
class PostgresBench(ProxyBench):
    """A fresh pair of login roles on the target server."""

    target: PostgresTarget | None = None

    @classmethod
    def at(cls, target: PostgresTarget, proxy: FaultProxy) -> PostgresBench:
        return cls(
            provider=PostgreSQL(),
            proxy=proxy,
            config={"user": target.admin, "database": "postgres", "tls": "disable"},
            options={"login_prefix": f"t_{uuid4().hex[:12]}", "owner_role": target.owner},
            admin={"password": Secret.of(target.admin_password)},
            commit=b"COMMIT",
            statement=b"ALTER ROLE",
            target=target,
        )

    def refusal(self, text: bytes) -> bytes:
        fields = b"SERROR\0VERROR\0C42501\0M" + text + b"\0D" + text + b"\0\0"
        return b"E" + struct.pack("!I", len(fields) + 4) + fields + b"Z\0\0\0\x05E"

    @contextmanager
    def session(self, issued: Issued) -> Iterator[PostgresSession]:
        assert self.target is not None
        word = issued.material["password"].reveal().decode()
        connection = psycopg.connect(self.target.dsn(issued.public["username"], word))
        try:
            yield PostgresSession(connection)
        finally:
            connection.close()


@dataclass
class PostgresSession:
    connection: psycopg.Connection

    def works(self) -> bool:
        try:
            self.connection.execute("SELECT 1")
            self.connection.rollback()
        except psycopg.OperationalError:
            return False
        return True


@dataclass
class ValkeyBench(ProxyBench):
    """ACL users on the target server."""

    target: ValkeyTarget | None = None

    @classmethod
    def at(cls, target: ValkeyTarget, proxy: FaultProxy) -> ValkeyBench:
        return cls(
            provider=Valkey(),
            proxy=proxy,
            config={"user": target.admin, "tls": "off"},
            options={"keys": "app:*", "commands": "+@read +@write +ping"},
            admin={"password": Secret.of(target.admin_password)},
            commit=rb"(?:SET|DEL)USER",
            statement=rb"(?:SET|DEL)USER",
            target=target,
        )

    def refusal(self, text: bytes) -> bytes:
        return b"-ERR Error in ACL SETUSER modifier " + text + b"\r\n"

    @contextmanager
    def session(self, issued: Issued) -> Iterator[ValkeySession]:
        assert self.target is not None
        client = redis.Redis(
            port=self.target.port,
            username=issued.public["username"],
            password=issued.material["password"].reveal().decode(),
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )
        with client:
            client.set("app:seen", "1")
            yield ValkeySession(client)


@dataclass
class ValkeySession:
    client: redis.Redis

    def works(self) -> bool:
        try:
            return bool(self.client.get("app:seen"))
        except redis.RedisError:
            return False
