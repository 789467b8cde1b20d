"""The queue server and PostgreSQL die, hang and forget; what was approved happens exactly once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import median
from uuid import uuid4

import httpx
import psycopg
import pytest

from keyvault.launcher import demo
from tests.flows import lives, queue_server
from tests.flows.visitors import Visitor, await_state, request_id, state_of, visitor
from tests.servers import Stack

pytestmark = pytest.mark.slow

PAGES = ("/", "/requests/", "/keys/", "/requests/new/")
ROUNDS = 4
# A page that waited for the queue server even once would be a hundred times slower.
SLOWER = 6
JOB = "INSERT INTO approvals_job (kind, subject_id, state, due_at, epoch, attempts, worker, code,"
JOB += " sentence, created_at, lease_until) VALUES (%s, %s, %s, now(), 0, %s, '', '', '', now(),"
JOB += " CASE WHEN %s = 'running' THEN now() END) RETURNING id"


@pytest.fixture(scope="module")
def alice(stack: Stack) -> Iterator[Visitor]:
    with visitor(stack, "alice") as person:
        yield person


@pytest.fixture(scope="module")
def bob(stack: Stack) -> Iterator[Visitor]:
    with visitor(stack, "bob") as person:
        yield person


@pytest.fixture(scope="module")
def carol(stack: Stack) -> Iterator[Visitor]:
    with visitor(stack, "carol") as person:
        yield person


@pytest.fixture
def asked(alice: Visitor, carol: Visitor) -> tuple[str, str]:
    """Return the name of a new key and its request, which waits for one more decision."""
    name = f"outage-{uuid4().hex[:8]}"
    request = lives.ask_for_key(alice, name, lives.DATABASE)
    assert carol.decide(request).status_code == 200
    return name, request


@contextmanager
def paused(stack: Stack, name: str) -> Iterator[int]:
    """Let one process of the stack hang while the block runs."""
    pid = stack.pid(name)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        # The block may have killed it.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def logins(stack: Stack, name: str) -> int:
    """Count what can log in at the target server because of a key."""
    targets = stack.targets()
    with psycopg.connect(
        host=targets.host,
        port=targets.postgres_port,
        dbname=demo.DATABASE,
        user=demo.ADMIN,
        password=targets.password,
    ) as link:
        found = link.execute(
            "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND starts_with(rolname, %s)",
            [name.replace("-", "_")],
        ).fetchone()
    return int(found[0])


def events(stack: Stack, request: str) -> list[str]:
    """Return the names of everything recorded of a request, in order."""
    with stack.sql() as link:
        found = link.execute(
            "SELECT event FROM keyvault_event WHERE request_id = %s ORDER BY at, id",
            [request_id(request)],
        )
        return [name for (name,) in found]


def job_of(stack: Stack, request: str, column: str = "id") -> object:
    """Return a column of the job that executes a request; None while there is no job."""
    with stack.sql() as link:
        found = link.execute(
            f"SELECT {column} FROM approvals_job WHERE kind = 'request.execute'"
            " AND subject_id = %s",
            [request_id(request)],
        ).fetchone()
    return found[0] if found else None


def await_true(happened: Callable[[], object], *, seconds: float = 40) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.1)


def happened_once(stack: Stack, name: str, request: str) -> None:
    """Assert that one request made one login, was started once and ended once."""
    await_state(stack, request, "done")
    await_true(lambda: job_of(stack, request, "state") == "done")
    told = events(stack, request)
    assert (told.count("request.executing"), told.count("request.done")) == (1, 1)
    assert told.count("version.promoted") == 1
    assert logins(stack, name) == 1


def usual_s(person: Visitor) -> float:
    """Return the median time of the pages that people open all day, in seconds."""
    return median(person.get(path).elapsed.total_seconds() for path in PAGES * ROUNDS)


def promise(stack: Stack, kind: str, subject: object, *, state: str = "ready", tries: int = 0):
    """Write a job as nobody but the database's owner could, and return its number."""
    with stack.sql() as link:
        return link.execute(JOB, [kind, subject, state, tries, state]).fetchone()[0]


def test_r59_an_approval_while_the_queue_server_is_dead_is_done_once(stack, asked, bob):
    name, request = asked
    stack.kill("valkey")
    assert bob.decide(request).status_code == 200
    happened_once(stack, name, request)


def test_r59_a_hung_queue_server_slows_no_page_and_stops_no_work(stack, asked, alice, bob):
    name, request = asked
    usual_s(alice)
    normal = usual_s(alice)
    with paused(stack, "valkey"):
        hung = usual_s(alice)
        assert bob.decide(request).status_code == 200
        await_state(stack, request, "done")
    assert hung < SLOWER * normal
    happened_once(stack, name, request)


def test_r59_a_hung_queue_server_is_said_on_the_system_page_and_only_degrades(stack, alice):
    with paused(stack, "valkey"):
        answer = alice.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert answer.json()["checks"]["queue_server"] is False
    await_true(lambda: alice.get("/readyz").json()["status"] == "ready")


def test_r59_a_message_that_was_flushed_is_sent_again(stack, asked, bob):
    name, request = asked
    with paused(stack, "worker") as worker:
        bob.decide(request)
        await_true(lambda: job_of(stack, request, "rung_at"))
        queue_server.client(stack).flushall()
        # What the server had already pushed to this worker is lost with it.
        os.kill(worker, signal.SIGKILL)
    happened_once(stack, name, request)


def test_r58_five_messages_for_one_job_do_it_once(stack, asked, bob):
    name, request = asked
    with paused(stack, "worker"):
        bob.decide(request)
        queue_server.ring(stack, job_of(stack, request), times=5)
    happened_once(stack, name, request)
    before = events(stack, request)
    done = stack.log("worker").count("] succeeded")
    queue_server.ring(stack, job_of(stack, request), times=5)
    await_true(lambda: stack.log("worker").count("] succeeded") >= done + 5)
    assert events(stack, request) == before
    assert logins(stack, name) == 1


def test_r20_a_message_for_an_unapproved_request_only_writes_that_it_was_refused(stack, asked, bob):
    name, request = asked
    before = events(stack, request)
    job = promise(stack, "request.execute", request_id(request))
    queue_server.ring(stack, job, times=5)
    await_true(lambda: job_of(stack, request, "state") == "done")
    assert events(stack, request) == [*before, "job.refused"]
    assert (state_of(stack, request), logins(stack, name)) == ("pending", 0)
    bob.decide(request)
    await_state(stack, request, "done")
    assert logins(stack, name) == 1


def test_r63_jobs_that_cannot_be_done_are_held_and_stop_no_other(stack, asked, bob):
    name, request = asked
    poison = [promise(stack, "no.such.kind", uuid4()) for _ in range(20)]
    poison += [
        promise(stack, "request.execute", uuid4(), state="running", tries=6) for _ in range(3)
    ]
    try:
        for job in poison:
            queue_server.ring(stack, job)
        bob.decide(request)
        happened_once(stack, name, request)
        await_true(lambda: held(stack, poison) == {"no_handler": 20, "crashed": 3})
        assert told_of(stack, poison) == len(poison)
    finally:
        with stack.sql() as link:
            link.execute("DELETE FROM approvals_job WHERE id = ANY(%s)", [poison])


def held(stack: Stack, jobs: list[int]) -> dict[str, int]:
    with stack.sql() as link:
        found = link.execute(
            "SELECT code, count(*) FROM approvals_job WHERE id = ANY(%s) AND state = 'held'"
            " GROUP BY code",
            [jobs],
        )
        return dict(found.fetchall())


def told_of(stack: Stack, jobs: list[int]) -> int:
    with stack.sql() as link:
        found = link.execute(
            "SELECT count(*) FROM keyvault_event WHERE event = 'job.held' AND subject_id = ANY(%s)",
            [[str(job) for job in jobs]],
        ).fetchone()
    return int(found[0])


def answers(person: Visitor) -> bool:
    try:
        return person.get("/").status_code == 200
    except httpx.HTTPError:
        return False


def test_r60_a_killed_postgresql_advances_nothing_and_the_console_recovers(
    stack, asked, alice, bob, monkeypatch
):
    name, request = asked
    console, code = stack.pid("console"), stack.code("bob")
    # The code is computed before: without a database nobody can ask for one.
    monkeypatch.setattr(Stack, "code", lambda _stack, _name: code)
    stack.kill("postgresql")
    page = bob.get(request)
    assert page.status_code >= 500
    assert "Traceback" not in page.text
    await_true(lambda: answers(alice))
    assert state_of(stack, request) == "pending"
    monkeypatch.undo()
    bob.decide(request)
    happened_once(stack, name, request)
    assert stack.pid("console") == console


def test_r60_a_decision_that_postgresql_did_not_commit_is_no_decision(stack, asked, alice, bob):
    _, request = asked
    before = events(stack, request)
    sent = sign_while_postgresql_dies(stack, request, bob)
    assert sent >= 500
    await_true(lambda: answers(alice))
    assert (state_of(stack, request), events(stack, request)) == ("pending", before)


def sign_while_postgresql_dies(stack: Stack, request: str, bob: Visitor) -> int:
    """Sign a decision whose code is right, kill PostgreSQL, and return the answer's status."""
    code, kill = Stack.code, stack.kill

    def code_then_dead(of: Stack, name: str) -> str:
        found = code(of, name)
        kill("postgresql")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "code", code_then_dead)
        return bob.decide(request).status_code


def test_r60_what_was_approved_before_postgresql_died_is_done_after_it(stack, asked, alice, bob):
    name, request = asked
    with paused(stack, "worker"):
        bob.decide(request)
        assert state_of(stack, request) == "approved"
        stack.kill("postgresql")
        await_true(lambda: answers(alice))
    happened_once(stack, name, request)
