"""Each segment of reads is one event, and each read has a proof that verifies far from here."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.utils import timezone

from keyvault.audit import checkpoints, sequencer
from keyvault.audit.merkle import InvalidProof
from keyvault.audit.models import Event
from keyvault.audit.reads import proofs, segments
from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.cli import verify_ledger
from tests.keyvault.reads import builders

GOLDEN = Path(__file__).with_name("golden.read-proof.json")
TRUSTED = Path(__file__).with_name("golden.vkey")

pytestmark = pytest.mark.django_db


def _recorded() -> None:
    segments.record_due(timezone.now())
    sequencer.drain()


def _signed() -> None:
    _recorded()
    checkpoints.run_once(timezone.now(), is_forced=True)


def _faults(proof: dict) -> list[str]:
    trusted = verify_ledger.Key.parse(str(checkpoints.verifier()))
    return verify_ledger.verify_proof(proof, trusted=trusted).faults


def test_a_segment_becomes_one_event_and_only_one():
    process = builders.shipped(10)

    assert segments.record_due(timezone.now()) == 1
    assert segments.record_due(timezone.now()) == 0

    event = Event.objects.get(event="reads.segment")
    segment = ReadSegment.objects.get(process=process)
    assert segment.event_id == event.id
    assert event.subject_id == str(process)
    assert (event.fields["first"], event.fields["last"], event.fields["count"]) == (1, 10, 10)
    assert event.fields["root"] == bytes(segment.root).hex()


@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 600])
def test_every_read_of_a_segment_has_a_proof_that_verifies_elsewhere(count):
    process = builders.shipped(count, first=1)
    _signed()

    for number in sorted({1, 2, count // 2, count - 1, count} - {0}):
        if number <= count:
            proof = proofs.bundle(proofs.locate(process, number))
            assert json.loads(proof["record"])[2] == number
            assert _faults(proof) == []


def test_the_proof_of_a_later_segment_counts_from_its_first_read():
    process = builders.shipped(5)
    builders.shipped(7, process=process, first=6)
    _signed()

    assert _faults(proofs.bundle(proofs.locate(process, 9))) == []


FORGERIES = {
    "another time": lambda p: {**p, "record": p["record"].replace(",3,", ",3,")[:-3] + 'x"]'},
    "another number": lambda p: {**p, "record": p["record"].replace(",2,", ",3,", 1)},
    "another process": lambda p: {**p, "record": p["record"].replace(p["record"][4:40], str(uuid4()))},
    "another path": lambda p: {**p, "record_path": p["record_path"][::-1]},
    "a short path": lambda p: {**p, "record_path": p["record_path"][:-1]},
    "no path": lambda p: {**p, "record_path": []},
    "another event": lambda p: {**p, "event": {**p["event"], "event": "access.refused"}},
    "no record": lambda p: {**p, "record": "{}"},
    "a number out of the segment": lambda p: {**p, "record": p["record"].replace(",2,", ",99,", 1)},
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_proof_of_a_read_is_refused(forgery):
    process = builders.shipped(10)
    _signed()
    proof = proofs.bundle(proofs.locate(process, 2))

    assert _faults(proof) == []
    assert _faults(FORGERIES[forgery](proof)) != []


def test_a_proof_written_by_this_version_verifies_for_ever(capsys):
    assert verify_ledger.main([str(GOLDEN), "--trust", str(TRUSTED)]) == verify_ledger.INTACT
    assert '"billing-reader"' in capsys.readouterr().out

    edited = json.loads(GOLDEN.read_text())
    edited["record"] = edited["record"].replace("192.0.2.7", "192.0.2.8")
    trusted = verify_ledger.Key.parse(TRUSTED.read_text())
    assert verify_ledger.verify_proof(edited, trusted=trusted).faults


def test_there_is_no_proof_of_what_is_not_there():
    process = builders.shipped(3)

    with pytest.raises(LookupError, match="does not have this segment yet"):
        proofs.locate(process, 1)
    _recorded()
    with pytest.raises(LookupError, match="no read 4"):
        proofs.locate(process, 4)
    with pytest.raises(LookupError, match="no checkpoint"):
        proofs.bundle(proofs.locate(process, 1))


def test_no_proof_is_made_from_rows_that_were_changed(replica):
    process = builders.shipped(5)
    _signed()

    with replica:
        ReadEvent.objects.filter(process=process, seq=2).update(record=b"[]")
    with pytest.raises(InvalidProof):
        proofs.locate(process, 2)
    with replica:
        ReadEvent.objects.filter(process=process, seq=3).delete()
    with pytest.raises(InvalidProof, match="1 reads of the segment are missing"):
        proofs.locate(process, 2)


def test_the_command_prints_a_proof_and_records_who_asked(capsys):
    process = builders.shipped(3)
    _signed()

    call_command("audit_read", str(process), "2")

    assert _faults(json.loads(capsys.readouterr().out)) == []
    assert Event.objects.filter(event="audit.opened", actor_id="cli").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_clocks_write_one_event_for_each_segment():
    for _ in range(20):
        builders.shipped(2)
    barrier, written = threading.Barrier(2), []

    def clock() -> None:
        barrier.wait()
        written.append(segments.record_due(timezone.now()))
        connections.close_all()

    threads = [threading.Thread(target=clock) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(written) == 20
    assert Event.objects.filter(event="reads.segment").count() == 20
    assert ReadSegment.objects.filter(event=None).count() == 0


@pytest.mark.django_db(transaction=True)
def test_without_the_event_the_segment_stays_due(monkeypatch):
    builders.shipped(2)
    monkeypatch.setattr(segments.ledger, "_insert", _no_ledger)

    with pytest.raises(RuntimeError):
        segments.record_due(timezone.now())

    assert ReadSegment.objects.filter(event=None).count() == 1
    assert not transaction.get_connection().in_atomic_block


def _no_ledger(_row: object) -> None:
    raise RuntimeError("the ledger is away")
