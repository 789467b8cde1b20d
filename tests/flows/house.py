"""People who ask and approve, workers that are real processes, and a look at the real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
from django.db import connection
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
from tests.keyvault.vault.rows import WORKER

ROOT = Path(__file__).resolve().parents[2]
WORKER_S = 60
MOST_TRIES = 6


@dataclass
class RealHouse:
    """The cast before a Connection to `target`, which is reached through `proxy`."""

    cast: people.Cast
    now: datetime
    target: PostgresTarget
    proxy: FaultProxy
    keys: Path

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
        worker = self._worker(request, KV_CRASH_AT=crash_at)
        _, errors = worker.communicate(timeout=WORKER_S)
        assert worker.returncode in {0, -signal.SIGKILL}, errors.decode()
        self.let_leases_end(request)
        return worker.returncode

    @contextmanager
    def paused_worker(self, request: Request, point: str) -> Iterator[None]:
        """Let one worker reach a point and sleep there while the block runs, then finish."""
        worker = self._worker(request, KV_PAUSE_AT=point)
        _, status = os.waitpid(worker.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), worker.communicate()[1].decode()
        self.let_leases_end(request)
        try:
            yield
        finally:
            worker.send_signal(signal.SIGCONT)
            _, errors = worker.communicate(timeout=WORKER_S)
        assert worker.returncode == 0, errors.decode()

    def let_leases_end(self, request: Request) -> None:
        """Make the request's job claimable, as the passing of time would."""
        rows = Job.objects.filter(pk=self.job(request).pk)
        rows.filter(state=Job.State.RUNNING).update(lease_until=Now() - timedelta(seconds=1))
        rows.filter(state=Job.State.READY).update(due_at=Now())

    def _worker(self, request: Request, **environment: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.flows.worker", str(self.job(request).pk)],
            cwd=ROOT,
            env={**os.environ, **self._environment(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def work_until_done(self, request: Request) -> int:
        """Let workers try until the job is done and return how many it took."""
        for tries in range(1, MOST_TRIES + 1):
            self.work(request)
            if self.job(request).state == Job.State.DONE:
                return tries
        job = self.job(request)
        raise AssertionError(f"the job is {job.state}: {job.code} {job.sentence}")

    def _environment(self) -> dict[str, str]:
        facts = connection.settings_dict
        user, password = quote(facts["USER"]), quote(facts["PASSWORD"])
        place = f"host={quote(str(facts['HOST']), safe='')}&port={facts['PORT']}"
        url = f"postgresql://{user}:{password}@/{facts['NAME']}?{place}"
        return {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": url,
            "KEYVAULT_KEYS_DIR": str(self.keys),
            "PYTHONPATH": str(ROOT),
        }

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
