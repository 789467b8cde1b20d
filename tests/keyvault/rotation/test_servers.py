"""Rotations of accounts at real servers while programs use them all the time.

Run by `./kv test -m servers tests/keyvault/rotation/test_servers.py`. PostgreSQL and
Valkey have the same in `./kv bench rotation`, over a whole installation.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import pymysql
import pytest
from django.db import transaction

from keyvault.connections import context
from keyvault.crypto.secret import Secret
from keyvault.rotation import choosing
from keyvault.rotation.models import Delivery
from keyvault.vault import sealing
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from tests.contracts.mariadb_server import MariaSession, mariadb
from tests.contracts.rabbitmq_server import Amqp, rabbitmq
from tests.keyvault.vault import rows

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

ROTATIONS, PROGRAMS = 10, 4
PATIENCE_S = 30


class Session(Protocol):
    """An open connection of a program."""

    def works(self) -> bool: ...
    def close(self) -> None: ...


@dataclass
class Place:
    """A server, and the Connection and the key that lead to it."""

    provider: str
    config: dict[str, Any]
    options: dict[str, str]
    allowed: str
    admin_password: str
    open: Callable[[dict[str, str], str], Session]
    accounts: Callable[[], list[str]]


@pytest.fixture(scope="module")
def maria(tmp_path_factory):
    with mariadb(tmp_path_factory.mktemp("mariadb")) as target:
        yield Place(
            provider="mariadb",
            config={
                "host": "127.0.0.1",
                "port": target.port,
                "user": target.admin,
                "tls": "off",
            },
            options={"role": target.role},
            allowed=f"127.0.0.1:{target.port}",
            admin_password=target.admin_password,
            open=lambda public, word: MariaSession(target.login(public["username"], word)),
            accounts=lambda: [user for user, _ in target.accounts()],
        )


@pytest.fixture(scope="module")
def rabbit(tmp_path_factory):
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as target:
        url = f"http://127.0.0.1:{target.http}"
        yield Place(
            provider="rabbitmq",
            config={"url": url, "user": target.admin},
            options={"vhost": "/", "configure": "^app-", "write": "^app-", "read": "^app-"},
            allowed=url,
            admin_password=target.admin_password,
            open=lambda public, word: Amqp(target.amqp, public["username"], word, public["vhost"]),
            accounts=target.users,
        )


@pytest.fixture(params=["maria", "rabbit"])
def place(request) -> Place:
    return request.getfixturevalue(request.param)


@pytest.fixture
def where(cast, place):
    """Stand in for the fake Connection of the other tests."""
    made = rows.connection(
        cast,
        provider=place.provider,
        config=place.config,
        allowed_hosts=[place.allowed],
        credential_number=1,
    )
    with transaction.atomic():
        admin = {"password": Secret.of(place.admin_password)}
        sealing.put(context.credential_place(made), admin, now=cast.now)
    return made


@pytest.fixture
def options(place):
    return place.options


@dataclass
class Program:
    """Uses what it was given over one connection, all the time, until it is stopped."""

    open: Callable[[dict[str, str], str], Session]
    given: tuple[int, dict[str, str], str]
    version: int = 0
    served: int = 0
    failures: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def work(self) -> None:
        session = None
        while not self.is_over.wait(0.01):
            number, public, word = self.given
            try:
                if session is None or number != self.version:
                    before, session = session, self.open(public, word)
                    self.version = number
                    if before:
                        before.close()
                if session.works():
                    self.served += 1
                    continue
                self.failures.append(f"version {self.version}: the session has ended")
            except (pymysql.Error, OSError, EOFError) as error:
                self.failures.append(f"version {self.version}: {type(error).__name__}")
            session = None
        if session:
            session.close()


@pytest.fixture
def programs(key, place, now):
    """Let programs use the current version."""
    made = [Program(place.open, value_of(versions.current(key.pk), now)) for _ in range(PROGRAMS)]
    threads = [threading.Thread(target=program.work) for program in made]
    for thread in threads:
        thread.start()
    yield made
    for program in made:
        program.is_over.set()
    for thread in threads:
        thread.join(PATIENCE_S)


def value_of(version, now):
    material = vault.open_material(
        version_id=version.pk, actor=rows.WORKER, now=now, purpose="tests"
    )
    return version.number, version.remote["public"], material["password"].reveal().decode()


def until(holds: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at, what
        time.sleep(0.02)


def test_rotations_fail_no_request_and_end_each_old_account(
    begin, work, later, key, place, programs, now
):
    until(lambda: all(program.served for program in programs), "the programs begin")
    for _ in range(ROTATIONS):
        old = versions.current(key.pk)
        rotation = begin()
        assert work(rotation).state == "promoting"
        value = value_of(versions.current(key.pk), now)
        assert value[0] > old.number

        late, *others = programs
        for program in others:
            program.given = value
        for delivery in Delivery.objects.filter(rotation=rotation):
            choosing.confirm(delivery_id=delivery.pk, actor=rows.WORKER, now=now)
        for _ in range(3):
            assert work(rotation).state == "draining", "one program still has its session"
            later(rotation, 50)

        late.given = value
        until(lambda given=value: all(one.version == given[0] for one in programs), "all move")

        def is_completed(rotation=rotation) -> bool:
            later(rotation, 50)
            return work(rotation).state == "completed"

        until(is_completed, "the old account is silent")
        assert versions.version(old.pk).state == "revoked"
        assert place.accounts() == [versions.current(key.pk).remote_id]
        served = [program.served for program in programs]
        until(
            lambda served=served: all(
                program.served > before for program, before in zip(programs, served, strict=True)
            ),
            "the programs go on",
        )
    assert [program.failures for program in programs] == [[]] * PROGRAMS
