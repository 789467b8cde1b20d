"""Checkpoints: when they are due, how they leave the house, when signing would be a lie."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from keyvault.audit import checkpoints, merkle, note, sequencer, tree
from keyvault.audit.merkle import InvalidProof
from keyvault.audit.models import Checkpoint, LedgerTree
from keyvault.audit.sink import Directory, SinkUnavailable

pytestmark = pytest.mark.django_db


def test_nothing_is_signed_over_an_empty_ledger(moment):
    assert checkpoints.run_once(moment) is None


def test_a_checkpoint_is_due_by_time_also_when_idle(write, moment, settings):
    write(1)
    sequencer.run_once()

    assert checkpoints.run_once(moment).number == 1
    assert checkpoints.run_once(moment + timedelta(seconds=59)) is None
    assert checkpoints.run_once(moment + timedelta(seconds=60)).number == 2
    assert list(Checkpoint.objects.values_list("size", flat=True)) == [1, 1]


def test_a_checkpoint_is_due_by_count(write, moment, settings):
    settings.CHECKPOINT_EVENTS = 10
    write(1)
    sequencer.run_once()
    checkpoints.run_once(moment)
    write(9)
    sequencer.run_once()
    assert checkpoints.run_once(moment) is None
    write(1)
    sequencer.run_once()

    assert checkpoints.run_once(moment).size == 11


def test_each_checkpoint_is_exported_signed(sealed, settings):
    sealed(3)
    made = sealed(2)
    verifier = note.Verifier.parse((settings.CHECKPOINT_DIR / "ledger.vkey").read_text())
    text = (settings.CHECKPOINT_DIR / "latest.note").read_text()

    assert note.Head.parse(note.read(text, verifier)) == checkpoints.head(made)
    assert len(list(settings.CHECKPOINT_DIR.glob("*/*.note"))) == 2
    assert not list(settings.CHECKPOINT_DIR.rglob(".*"))


def test_what_could_not_be_exported_is_exported_by_the_next_pass(sealed, settings, monkeypatch):
    sealed(1)
    monkeypatch.setattr(Directory, "put", _full)
    with pytest.raises(SinkUnavailable):
        sealed(1)
    monkeypatch.undo()

    assert checkpoints.run_once(timezone.now()) is None
    assert checkpoints.sink().latest().number == 2


def _full(self, head, text):
    raise SinkUnavailable("No space left on device.")


def test_a_sink_that_cannot_be_written_is_said(sealed, settings, tmp_path):
    settings.CHECKPOINT_DIR = tmp_path / "file" / "below"
    (tmp_path / "file").write_text("")

    with pytest.raises(SinkUnavailable, match=r"cannot be (written|read)"):
        sealed(1)


def test_without_a_key_nothing_is_signed(sealed):
    checkpoints.install(None)

    with pytest.raises(checkpoints.NoSigner):
        sealed(1)


def test_r50_a_rewound_database_is_never_signed_again(sealed):
    sealed(5)
    sealed(5)
    _rewrite("DELETE FROM keyvault_checkpoint WHERE number = 2")

    with pytest.raises(checkpoints.Rewound, match="Checkpoint 2"):
        checkpoints.run_once(timezone.now(), is_forced=True)


def test_r50_a_rewritten_leaf_is_never_signed(sealed, write):
    sealed(5)
    write(3)
    sequencer.run_once()
    _rewrite("UPDATE keyvault_ledgerleaf SET leaf_hash = %s WHERE seq = 2", [b"x" * 32])

    with pytest.raises(InvalidProof):
        checkpoints.run_once(timezone.now(), is_forced=True)


def test_r50_a_rewritten_past_with_a_matching_tree_is_never_signed(sealed, write):
    sealed(5)
    _rewrite("UPDATE keyvault_ledgerleaf SET leaf_hash = %s WHERE seq = 2", [b"x" * 32])
    LedgerTree.objects.update(size=5, peaks=_peaks())

    with pytest.raises(InvalidProof):
        checkpoints.run_once(timezone.now(), is_forced=True)


def test_a_foreign_note_in_the_sink_stops_the_writer(sealed, settings):
    sealed(1)
    path = settings.CHECKPOINT_DIR / "latest.note"
    path.write_text(path.read_text().replace("number 1", "number 0"))

    with pytest.raises(note.BadNote):
        checkpoints.run_once(timezone.now(), is_forced=True)


def _rewrite(statement, values=None):
    """Do what only a superuser can: switch the triggers off and rewrite."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET session_replication_role = DEFAULT")


def _peaks():
    frontier = merkle.Frontier()
    for leaf in tree.read(0, 0, 5):
        frontier.append(leaf)
    return b"".join(frontier.peaks)
