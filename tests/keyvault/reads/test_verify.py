"""`keyvault audit verify` finds every read that was edited, deleted, added or moved."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone

from keyvault.audit import checkpoints, sequencer, verify
from keyvault.audit.reads import segments
from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.usage.models import UsageDue
from tests.keyvault.reads import builders

pytestmark = pytest.mark.django_db


@pytest.fixture
def process():
    """A process of three segments, all of them signed."""
    process = uuid4()
    for first in (1, 11, 21):
        builders.shipped(10, process=process, first=first)
    _sign()
    return process


def _sign() -> None:
    segments.record_due(timezone.now())
    sequencer.drain()
    checkpoints.run_once(timezone.now(), is_forced=True)


def _kinds() -> set[str]:
    return {problem.kind for problem in verify.verify(timezone.now()).problems}


def test_honest_reads_are_intact_and_counted(process):
    beats = []

    result = verify.verify(timezone.now(), report=beats.append)

    assert result.problems == []
    assert result.reads == 30
    assert len(beats) >= 3


def _sql(text: str, *values: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(text, values)


def _add(process: object) -> None:
    _sql(
        "INSERT INTO keyvault_readevent SELECT process, 31, at, agent_id, token, key_id, key,"
        " number, door, source, request, record FROM keyvault_readevent"
        " WHERE process = %s AND seq = 30",
        process,
    )


def _without_segment(process, *, first: int) -> None:
    UsageDue.objects.filter(segment__process=process, segment__first=first).delete()
    ReadSegment.objects.filter(process=process, first=first).delete()


MUTATIONS = {
    "an edited column": (
        lambda p: ReadEvent.objects.filter(process=p, seq=4).update(source="192.0.2.99"),
        {"read_edited"},
    ),
    "another agent": (
        lambda p: ReadEvent.objects.filter(process=p, seq=4).update(agent_id=uuid4()),
        {"read_edited"},
    ),
    "an edited record": (
        lambda p: ReadEvent.objects.filter(process=p, seq=4).update(record=b"[]"),
        {"read_edited", "read_root"},
    ),
    "record and column edited alike": (
        lambda p: _sql(
            "UPDATE keyvault_readevent SET source = '192.0.2.9', record ="
            " convert_to(replace(convert_from(record, 'UTF8'), '192.0.2.7', '192.0.2.9'), 'UTF8')"
            " WHERE process = %s AND seq = 4",
            p,
        ),
        {"read_root"},
    ),
    "a deleted read": (
        lambda p: ReadEvent.objects.filter(process=p, seq=4).delete(),
        {"read_missing", "read_root"},
    ),
    "a deleted first read": (
        lambda p: ReadEvent.objects.filter(process=p, seq=11).delete(),
        {"read_missing", "read_root"},
    ),
    "a deleted last read": (
        lambda p: ReadEvent.objects.filter(process=p, seq=30).delete(),
        {"read_missing", "read_root"},
    ),
    "a deleted segment of reads": (
        lambda p: ReadEvent.objects.filter(process=p, seq__gt=20).delete(),
        {"read_missing", "read_root"},
    ),
    "two reads swapped": (
        lambda p: _sql(
            "UPDATE keyvault_readevent SET seq = CASE seq WHEN 4 THEN 5004 ELSE 4 END"
            " WHERE process = %s AND seq IN (4, 5);"
            " UPDATE keyvault_readevent SET seq = 5 WHERE seq = 5004",
            p,
        ),
        {"read_edited", "read_root"},
    ),
    "a read moved in time": (
        lambda p: _sql(
            "UPDATE keyvault_readevent SET at = at - interval '1 hour'"
            " WHERE process = %s AND seq = 4",
            p,
        ),
        {"read_missing", "read_root"},
    ),
    "an added read": (_add, {"read_stray"}),
    "a read doubled at another time": (
        lambda p: _sql(
            "INSERT INTO keyvault_readevent SELECT process, seq, at - interval '1 hour', agent_id,"
            " token, key_id, key, number, door, source, request, record FROM keyvault_readevent"
            " WHERE process = %s AND seq = 4",
            p,
        ),
        {"read_stray"},
    ),
    "a segment's row deleted": (
        lambda p: _without_segment(p, first=11),
        {"read_stray"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_r50_a_tampered_read_is_found(process, replica, mutation):
    change, expected = MUTATIONS[mutation]

    with replica:
        change(process)

    assert _kinds() == expected


def test_a_segment_that_never_reached_the_ledger_is_found(process):
    builders.shipped(3)

    assert _kinds() == set()
    late = verify.verify(timezone.now() + timedelta(minutes=2))

    assert "unplaced" in {problem.kind for problem in late.problems}


def test_segments_that_leave_out_reads_are_found(process):
    builders.shipped(5, process=process, first=41)
    _sign()

    assert _kinds() == {"read_gap"}
