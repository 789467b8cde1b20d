"""No secret is anywhere but where it belongs: a full life of several, and then the search.

What a person typed (a value made by hand or adopted, an admin credential) and what the
house made itself (a database password) must not be in the database, its files,
the queue, a log, a page, an export or a checkpoint, however it is written.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import sql

from keyvault.launcher import demo, postgres
from tests.flows import lives, queue_server
from tests.flows.canaries import files, leaking, leaks, planted
from tests.flows.visitors import Visitor, await_state, visitor
from tests.servers import Stack

pytestmark = pytest.mark.slow

NUMBER_OR_ID = re.compile(r"^[0-9a-f-]{36}$|^\d+$")
PEOPLE = ("alice", "bob", "carol", "dave", "frank", "grace")
EVENTS_SHOWN = 12
ADMIN = "canary_admin"
VALUE = '<output class="value"'


@dataclass(frozen=True)
class Life:
    """What a full life of the canaries left to look at."""

    canaries: tuple[str, ...]
    recording: queue_server.Recording
    shown: bytes
    pages: Mapping[str, bytes]
    exports: Mapping[str, bytes]


@pytest.fixture(scope="module")
def life(stack: Stack) -> Life:
    """Return the traces of secrets that were made, shown, refused and revoked."""
    with ExitStack() as until, queue_server.monitored(stack) as recording:
        people = {name: until.enter_context(visitor(stack, name)) for name in PEOPLE}
        canaries = (
            *key_of_the_database(people),
            *value_by_hand(people),
            *admin_credentials(people),
            *adopted_values(people),
        )
        for name in ("alice", "dave", "frank"):
            people[name].crawl(*starts(stack, name), most=45)
        exports = {kind: export(people["dave"], kind) for kind in ("csv", "jsonl")}
        (showing,) = (answer for answer in people["alice"].seen if VALUE in answer.text)
        pages = {
            f"{name} {number} {answer.request.method} {answer.url}": whole(answer)
            for name, person in people.items()
            for number, answer in enumerate(person.seen)
            if answer is not showing
        }
    return Life(canaries, recording, whole(showing), pages, exports)


def key_of_the_database(people: Mapping[str, Visitor]) -> tuple[str, ...]:
    alice, bob, carol = (people[name] for name in ("alice", "bob", "carol"))
    lives.done(lives.ask_for_key(alice, "canary-orders", lives.DATABASE), bob, carol)
    lives.done(lives.ask_to_reveal(alice, "canary-orders"), bob)
    password = lives.reveal(alice, "canary-orders")
    assert len(password) > 20
    alice.post("/keys/canary-orders/versions/1/reveal/", {})
    lives.done(lives.ask_to_revoke(alice, "canary-orders"), bob, carol)
    return (password,)


def value_by_hand(people: Mapping[str, Visitor]) -> tuple[str, ...]:
    """Hand a value over, after one that was refused because it was too long."""
    alice, bob, carol = (people[name] for name in ("alice", "bob", "carol"))
    request = lives.ask_for_key(alice, "canary-vendor", lives.BY_HAND)
    bob.decide(request)
    carol.decide(request)
    await_state(alice.stack, request, "executing")
    taken, refused = planted(), planted()
    intake = "/keys/canary-vendor/intake/"
    until = time.monotonic() + 20
    while alice.get(intake).status_code != 200 and time.monotonic() < until:
        time.sleep(0.2)
    answer = alice.send(intake, "value_value", value_value=refused + "x" * 70_000)
    assert answer.status_code == 422
    alice.send(intake, "value_value", value_value=taken)
    await_state(alice.stack, request, "done")
    ending = lives.ask_to_revoke(alice, "canary-vendor")
    bob.decide(ending)
    carol.decide(ending)
    await_state(alice.stack, ending, "executing")
    return taken, refused


def admin_credentials(people: Mapping[str, Visitor]) -> tuple[str, ...]:
    """Type one that is approved and then checked, one rejected, one withdrawn, one with errors."""
    frank, grace = people["frank"], people["grace"]
    approved, rejected, withdrawn, mistyped, checked = (planted() for _ in range(5))
    make_login(frank.stack, approved)
    lives.done(ask_for_connection(frank, "canary-db", approved), grace)
    assert "Checked: nothing is in the way" in frank.post("/connections/canary-db/check/", {}).text
    grace.decide(ask_for_connection(frank, "canary-no", rejected), "reject", "Not this one.")
    taken_back = ask_for_connection(frank, "canary-back", withdrawn)
    frank.confirmed(frank.post(f"{taken_back}withdraw/", {}))
    await_state(frank.stack, taken_back, "withdrawn")
    assert type_connection(frank, "Not A Name", mistyped).status_code == 422
    type_connection(frank, "canary-tried", checked, check="1")
    return approved, rejected, withdrawn, mistyped, checked


def adopted_values(people: Mapping[str, Visitor]) -> tuple[str, ...]:
    """Bring one that is adopted, one rejected, one withdrawn, one with errors; one of them twice."""
    alice, bob, carol = (people[name] for name in ("alice", "bob", "carol"))
    taken, rejected, withdrawn, mistyped = (planted() for _ in range(4))
    lives.done(lives.ask_to_adopt(alice, "canary-adopted", taken), bob, carol)
    bob.decide(lives.ask_to_adopt(alice, "canary-unwanted", rejected), "reject", "Not this one.")
    taken_back = lives.ask_to_adopt(alice, "canary-taken-back", withdrawn)
    alice.confirmed(alice.post(f"{taken_back}withdraw/", {}))
    await_state(alice.stack, taken_back, "withdrawn")
    assert lives.type_adoption(alice, "Not A Name!", mistyped).status_code == 422
    again = lives.type_adoption(alice, "canary-again", taken)
    assert "in the inventory already: canary-adopted" in again.text
    return taken, rejected, withdrawn, mistyped


def make_login(stack: Stack, password: str) -> None:
    """Make the admin whose password is a canary at the target server."""
    targets = stack.targets()
    with psycopg.connect(
        host=targets.host,
        port=targets.postgres_port,
        dbname=demo.DATABASE,
        user=demo.ADMIN,
        password=targets.password,
    ) as link:
        words = sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}")
        link.execute(words.format(sql.Identifier(ADMIN), sql.Literal(password)))


def type_connection(frank: Visitor, slug: str, password: str, **button: str) -> httpx.Response:
    targets = frank.stack.targets()
    return frank.send(
        "/connections/new/?provider=postgresql",
        "credential_password",
        slug=slug,
        title="Orders once more",
        environment="dev",
        team="",
        config_host=targets.host,
        config_port=str(targets.postgres_port),
        config_database=demo.DATABASE,
        config_user=ADMIN,
        config_tls="disable",
        credential_password=password,
        allowed_hosts=f"{targets.host}:{targets.postgres_port}",
        reason="A second way to the orders.",
        **(button or {"send": "1"}),
    )


def ask_for_connection(frank: Visitor, slug: str, password: str) -> str:
    path = type_connection(frank, slug, password).url.path
    assert path.startswith("/approvals/"), path
    return path


def starts(stack: Stack, name: str) -> tuple[str, ...]:
    """Return where a crawl begins: the first page, the keys, and what was recorded last."""
    if name == "alice":
        keys = ("canary-orders", "canary-vendor", "canary-adopted")
        return ("/", "/requests/", *(f"/keys/{key}/" for key in keys), "/search/?q=canary")
    with stack.sql() as link:
        last = link.execute("SELECT max(seq) FROM keyvault_ledgerleaf").fetchone()[0]
    events = [f"/audit/e/{seq}/" for seq in range(last - EVENTS_SHOWN, last)]
    return ("/", "/audit/", "/connections/canary-db/", "/connections/canary-db/edit/", *events)


def export(dave: Visitor, kind: str) -> bytes:
    answer = dave.post("/audit/export/", {"q": "", "format": kind})
    assert answer.status_code == 200, answer.text
    assert len(answer.content) > 1000
    return answer.content


def whole(answer: httpx.Response) -> bytes:
    """Return an answer as it came, with its headers."""
    return b"\n".join(b": ".join(pair) for pair in answer.headers.raw) + b"\n\n" + answer.content


def dump(stack: Stack) -> bytes:
    """Return the whole database as its own pg_dump writes it."""
    program = postgres.find(stack.data / "postgres").path / "pg_dump"
    with stack.sql() as link:
        facts = link.info
        place = {"PGHOST": facts.host, "PGPORT": str(facts.port), "PGDATABASE": facts.dbname}
        secret = {"PGUSER": facts.user, "PGPASSWORD": facts.password}
    made = subprocess.run(
        [program], env=os.environ | place | secret, capture_output=True, check=True
    )
    assert b"COPY public.approvals_request" in made.stdout
    return made.stdout


def test_r13_the_database_holds_no_canary(life: Life, stack: Stack):
    assert leaking({"pg_dump": dump(stack)}, life.canaries) == {}


def test_r1_no_file_of_the_installation_holds_a_canary(life: Life, stack: Stack):
    """Pages and write-ahead log of PostgreSQL, RDB and AOF, checkpoints, logs, everything."""
    with stack.sql() as link:
        link.execute("CHECKPOINT")
    queue_server.client(stack).bgrewriteaof()
    found = files(stack.data, without=["target"])
    assert {path.split("/")[0] for path in found} >= {"postgres", "valkey", "log", "checkpoints"}
    assert leaking(found, life.canaries) == {}


def test_r10_the_queue_server_hears_and_keeps_no_canary(life: Life, stack: Stack):
    assert len(life.recording.lines) > 100
    assert leaks(life.recording.text, life.canaries) == []


def test_r10_a_task_is_told_an_id_and_nothing_else(life: Life):
    told = life.recording.arguments()
    assert len(told) >= 5
    assert {len(args) for args, _ in told} == {1}
    assert all(NUMBER_OR_ID.match(str(args[0])) and not kwargs for args, kwargs in told)


def test_r11_the_result_backend_is_empty(life: Life, stack: Stack):
    kept = queue_server.client(stack).keys("*")
    assert kept
    assert [key for key in kept if b"task-meta" in key or b"taskset" in key] == []


def test_the_search_finds_the_value_on_the_page_that_showed_it(life: Life):
    assert leaks(life.shown, life.canaries) == [f"{life.canaries[0][:15]} as spans of four"]


def test_r1_no_page_but_that_of_the_reveal_holds_a_canary(life: Life):
    assert len(life.pages) > 150
    assert leaking(life.pages, life.canaries) == {}


def test_r9_no_export_of_the_ledger_holds_a_canary(life: Life):
    assert leaking(life.exports, life.canaries) == {}
    assert b"canary-orders" in life.exports["csv"]
    assert b"secret.revealed" in life.exports["jsonl"]


class Evil:
    """A value whose unpickling leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


def test_r11_a_pickled_message_runs_nothing_and_the_worker_works_on(stack: Stack, tmp_path: Path):
    mark, worker = tmp_path / "ran", stack.pid("worker")
    said = len(stack.log("worker"))
    with queue_server.sender(stack) as app:
        app.send_task(queue_server.TASK, args=[Evil(mark)], serializer="pickle")
    wait_for(lambda: "pickle" in stack.log("worker")[said:])
    with queue_server.sender(stack) as app:
        task = app.send_task(queue_server.TASK, args=[0], ignore_result=True)
    wait_for(lambda: f"{task.id}] succeeded" in stack.log("worker"))
    assert not mark.exists()
    assert stack.pid("worker") == worker


def wait_for(happened, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)
