"""People who ask and approve, workers that are real processes, and a look at the real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess

import psycopg
from django.db.models.functions import Now

from approvals import digests, selectors, services
from approvals.models import Job, Request
from keyvault.actions import create_key, revoke_key
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import Key
from keyvault.providers.testing import FaultProxy
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from tests import cast as people
from tests.contracts.servers import PostgresTarget
from tests.flows import worker
from tests.keyvault.gateway.builders import until
from tests.keyvault.vault.rows import WORKER

WORKER_S = 60
MOST_TRIES = 6


@dataclass
class RealHouse:
    """The cast before a Connection to `target`, which is reached through `proxy`."""

    cast: people.Cast
    now: datetime
    target: PostgresTarget
    proxy: FaultProxy
    workers: ForkServerContext

    def approved_create(self, name: str = "ledger-reader") -> Request:
        """Return alice's request for a key, approved and not yet executed."""
        declared = Declaration(
            name=name,
            title=name.title(),
            environment="dev",
            connection="orders",
            team="payments",
            purpose="Reads the ledger for the month's close.",
            allowed_hosts=("db.example.com",),
            options={"login_prefix": "ledger", "owner_role": self.target.owner},
        )
        return self._approved(
            create_key.ask(
                person=self.cast.alice, declared=declared, reason="Month's close.", now=self.now
            )
        )

    def approved_revoke(self, key: Key) -> Request:
        """Return alice's request to revoke her key, approved and not yet executed."""
        return self._approved(
            revoke_key.ask(person=self.cast.alice, name=key.name, reason="Done.", now=self.now)
        )

    def _approved(self, request: Request) -> Request:
        bob = self.cast.bob
        row = selectors.access_request(bob, request.pk)
        bound = digests.decide_digest(
            request_id=row.pk, plan_digest=row.plan_digest, verdict="approve"
        )
        services.decide(
            request_id=row.pk,
            person=bob,
            verdict="approve",
            plan_digest=row.plan_digest,
            proof_id=people.proof_for(bob, digest=bound, now=self.now),
            comment="",
            now=self.now,
        )
        return request

    def job(self, request: Request) -> Job:
        """Return the job that executes a request."""
        return Job.objects.get(subject_id=request.pk, kind__startswith="request")

    def work(self, request: Request, *, crash_at: str = "") -> int:
        """Let one worker process try the request's job and return how it ended.

        -9 means that it was killed. What it left claimed is claimable at once.
        """
        process = self._worker(request, crash_at=crash_at)
        self._await_end(process, {0, -signal.SIGKILL})
        self.let_leases_end(request)
        return process.exitcode

    @contextmanager
    def paused_worker(self, request: Request, point: str) -> Iterator[None]:
        """Let one worker reach a point and sleep there while the block runs, then finish."""
        process = self._worker(request, pause_at=point)
        until(lambda: worker.is_stopped(process.pid), WORKER_S)
        self.let_leases_end(request)
        try:
            yield
        finally:
            os.kill(process.pid, signal.SIGCONT)
            self._await_end(process, {0})

    def let_leases_end(self, request: Request) -> None:
        """Make the request's job claimable, as the passing of time would."""
        rows = Job.objects.filter(pk=self.job(request).pk)
        rows.filter(state=Job.State.RUNNING).update(lease_until=Now() - timedelta(seconds=1))
        rows.filter(state=Job.State.READY).update(due_at=Now())

    def _worker(
        self, request: Request, *, crash_at: str = "", pause_at: str = ""
    ) -> ForkServerProcess:
        arguments = (self.job(request).pk, crash_at, pause_at)
        process = self.workers.Process(target=worker.work, args=arguments)
        process.start()
        return process

    def _await_end(self, process: ForkServerProcess, expected: set[int]) -> None:
        process.join(WORKER_S)
        assert process.exitcode in expected, "what it said is among the captured output"

    def work_until_done(self, request: Request) -> int:
        """Let workers try until the job is done and return how many it took."""
        for tries in range(1, MOST_TRIES + 1):
            self.work(request)
            if self.job(request).state == Job.State.DONE:
                return tries
        job = self.job(request)
        raise AssertionError(f"the job is {job.state}: {job.code} {job.sentence}")

    def living(self) -> list[str]:
        """Return the remote ids of what can log in at the server, under our label."""
        with psycopg.connect(self.target.dsn()) as link:
            found = link.execute(
                "SELECT rolname || '/' || shobj_description(oid, 'pg_authid') FROM pg_roles"
                " WHERE rolcanlogin AND rolname LIKE 'ledger%'"
            ).fetchall()
        return sorted(name for (name,) in found)

    def password(self, key: Key) -> tuple[str, str]:
        """Return user name and password of the key's current version."""
        version = versions.current(key.pk)
        assert version is not None
        material = vault.open_material(
            version_id=version.pk, actor=WORKER, now=self.now, purpose="validate"
        )
        return version.public["username"], material["password"].reveal().decode()

    def can_log_in(self, user: str, password: str) -> bool:
        """Say whether the server lets a person in, as psql would."""
        try:
            psycopg.connect(self.target.dsn(user, password)).close()
        except psycopg.OperationalError:
            return False
        return True
