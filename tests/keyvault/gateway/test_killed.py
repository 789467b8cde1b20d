"""`kill -9` under load: every read that was answered is in the database once, and provable."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db.models import Count
from django.utils import timezone

from keyvault.audit import checkpoints, sequencer, verify
from keyvault.audit.reads import proofs, segments
from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.cli import verify_ledger
from keyvault.gateway.records import Mode
from tests.keyvault.gateway.reading import database_url, recovered

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).parents[3]


def _killed(directory: Path, mode: Mode, name: str, after_s: float) -> list[str]:
    """Run a child on the directory, kill it after a while of answers, return what it answered."""
    argv = [sys.executable, "-m", "tests.keyvault.gateway.child"]
    argv += [str(directory), mode.value, database_url(), name]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE) as child:
        first = child.stdout.readline()
        killer = threading.Timer(after_s, lambda: child.send_signal(signal.SIGKILL))
        killer.start()
        rest = child.stdout.read().decode()
        killer.join()
    lines = rest.split("\n")
    # A line that the kill cut short was written after its answer, but names nobody.
    return [first.decode().strip(), *lines[:-1]]


def prove_some(processes: list) -> None:
    """Record and sign what is there, and check the first, a middle and the last read of each process."""
    segments_left = True
    while segments_left:
        segments_left = segments.record_due(timezone.now())
    sequencer.drain()
    checkpoints.run_once(timezone.now(), is_forced=True)
    trusted = verify_ledger.Key.parse(str(checkpoints.verifier()))
    for process in processes:
        rows = ReadEvent.objects.filter(process=process).order_by("seq")
        for number in {rows.first().seq, rows.last().seq, rows[rows.count() // 2].seq}:
            proof = proofs.bundle(proofs.locate(process, number))
            assert verify_ledger.verify_proof(proof, trusted=trusted).faults == []


def _survives(directory: Path, mode: Mode, times: int) -> None:
    answered: list[str] = []
    for turn in range(times):
        answered += _killed(directory, mode, f"t{turn}", 0.2 + turn % 5 * 0.6)
    recovered(directory)

    rows = dict(ReadEvent.objects.values_list("request").annotate(n=Count("seq")))
    assert len(answered) > times * 20
    assert len(set(answered)) == len(answered)
    assert [request for request in answered if request not in rows] == []
    assert [request for request, count in rows.items() if count != 1] == []
    assert list(directory.iterdir()) == []
    prove_some(list(ReadSegment.objects.values_list("process", flat=True).distinct()))
    result = verify.verify(timezone.now())
    assert result.problems == []
    assert result.reads == len(rows)
    sys.stdout.write(
        f"{times} kills, mode {mode}: {len(answered)} answered, {len(rows)} recorded, 0 lost\n"
    )


@pytest.mark.parametrize("mode", Mode)
def test_every_answered_read_survives_two_kills(tmp_path, mode):
    _survives(tmp_path / "log", mode, 2)


@pytest.mark.campaign
@pytest.mark.parametrize("mode", Mode)
def test_every_answered_read_survives_twenty_kills(tmp_path, mode):
    _survives(tmp_path / "log", mode, 20)


def test_a_process_that_was_killed_without_a_database_loses_nothing(tmp_path, monkeypatch):
    directory = tmp_path / "log"
    child_url = "postgresql://nobody@/none?host=/nowhere"
    monkeypatch.setattr(sys.modules[__name__], "database_url", lambda: child_url)
    answered = _killed(directory, Mode.DURABLE, "away", 0.5)
    monkeypatch.undo()
    assert ReadEvent.objects.count() == 0

    recovered(directory)

    stored = set(ReadEvent.objects.values_list("request", flat=True))
    assert set(answered) <= stored
