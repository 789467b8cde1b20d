"""Both servers of a demo get new admin credentials: asked, approved, done, and kept over a restart."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psycopg
import pytest
import redis

from keyvault.launcher import demo
from tests.flows.visitors import WAIT_S, Visitor, await_state, visitor
from tests.servers import Stack, free_port

pytestmark = pytest.mark.slow

CONNECTIONS = ("northwind-db", "northwind-cache")


@pytest.fixture
def own_stack(tmp_path) -> Iterator[Stack]:
    """A demo of its own: whoever shares one relies on the passwords that it began with."""
    running = Stack(tmp_path / "data", tmp_path / "keys", free_port(), ("--demo",))
    yield running.start()
    running.stop()


def lets_in(stack: Stack) -> dict[str, bool]:
    """Say which of the servers still takes the password that its admin began with."""
    targets, found = stack.targets(), dict.fromkeys(CONNECTIONS, True)
    try:
        psycopg.connect(
            host=targets.host,
            port=targets.postgres_port,
            dbname=demo.DATABASE,
            user=demo.ADMIN,
            password=targets.password,
        ).close()
    except psycopg.OperationalError:
        found["northwind-db"] = False
    try:
        with redis.Redis(
            port=targets.valkey_port, username=demo.ADMIN, password=targets.valkey_password
        ) as client:
            client.execute_command("TIME")
    except redis.AuthenticationError:
        found["northwind-cache"] = False
    return found


def await_renewals(stack: Stack) -> None:
    until = time.monotonic() + WAIT_S
    with stack.sql() as link:
        while True:
            rows = link.execute(
                "SELECT slug, state, sentence FROM keyvault_renewal r"
                " JOIN keyvault_connection c ON c.id = r.connection_id ORDER BY slug"
            ).fetchall()
            if [row[:2] for row in rows] == [(slug, "done") for slug in sorted(CONNECTIONS)]:
                return
            assert time.monotonic() < until, rows
            time.sleep(0.1)


def check(person: Visitor, slug: str) -> str:
    page = person.post(f"/connections/{slug}/check/", {})
    assert page.status_code == 200
    return page.text


def test_both_servers_of_a_demo_are_renewed_and_survive_a_restart(own_stack):
    with visitor(own_stack, "frank") as frank, visitor(own_stack, "grace") as grace:
        assert set(lets_in(own_stack).values()) == {True}
        for slug in CONNECTIONS:
            asked = frank.send(f"/connections/{slug}/renew/", "reason", reason="A new year.")
            request = asked.url.path
            assert grace.decide(request).status_code == 200
            await_state(own_stack, request, "done")
        await_renewals(own_stack)

        assert set(lets_in(own_stack).values()) == {False}
        for slug in CONNECTIONS:
            assert "Checked: nothing is in the way." in check(frank, slug)

    own_stack.stop()
    own_stack.start()

    with visitor(own_stack, "frank") as frank:
        for slug in CONNECTIONS:
            assert "Checked: nothing is in the way." in check(frank, slug)
    assert set(lets_in(own_stack).values()) == {False}
