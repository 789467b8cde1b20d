"""Exports, and the stand-alone verifier as the second opinion on them."""

import csv
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyvault.audit import checkpoints, export, filters, note
from keyvault.audit.models import Event
from keyvault.cli import verify_ledger
from keyvault.crypto import signing
from tests.keyvault.audit.conftest import ALICE

pytestmark = pytest.mark.django_db


@pytest.fixture
def exported(tmp_path):
    """Export what a query matches into a file; returns its path."""

    def exported(raw="time:all", kind="jsonl", name="export"):
        now = timezone.now()
        made = export.prepare(filters.read(raw, now=now), kind=kind, actor=ALICE, now=now)
        path = tmp_path / f"{name}.{kind}"
        path.write_text("".join(export.lines(made)), newline="")
        return path

    return exported


def _faults(path, directory=None, trust=None):
    with path.open(encoding="utf-8", newline="\n") as file:
        return verify_ledger.verify_export(
            iter(file),
            trusted=verify_ledger.Key.parse(str(trust)) if trust else None,
            checkpoints=directory,
        ).faults


def _edit(path, change):
    lines = path.read_text().splitlines(keepends=True)
    change(lines)
    path.write_text("".join(lines))


def test_r44_the_jsonl_export_is_lossless(sealed, exported):
    sealed(300)
    path = exported()

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    events = [row["event"] for row in rows if "event" in row]

    stored = Event.objects.filter(leaf__isnull=False).order_by("leaf__seq")
    assert events == [row.entry().to_json() for row in stored][: len(events)]
    assert len(events) == 300


def test_r52_the_whole_export_verifies(sealed, exported, settings):
    for _ in range(4):
        sealed(70)
    path = exported()

    assert _faults(path, settings.CHECKPOINT_DIR, checkpoints.verifier()) == []


@pytest.mark.parametrize("raw", ["#137", "seq:5..9", "seq:>=290", "result:refused", "-seq:3..250"])
def test_r52_a_filtered_export_verifies_and_shows_only_its_events(sealed, write, exported, raw):
    write(250)
    write(10, outcome="refused")
    write(40)
    sealed(0, is_new=False)
    path = exported(f"{raw} time:all")

    with path.open() as file:
        report = verify_ledger.verify_export(iter(file), trusted=None, checkpoints=None)

    assert report.faults == []
    assert report.size >= 300
    assert report.events == report.statement["events"]
    assert report.events < 70


def test_r53_an_export_is_recorded_with_its_query(sealed, exported):
    sealed(3)
    exported("action:request.commented time:all")

    row = Event.objects.get(event="audit.exported")
    assert row.fields["query"] == "action:request.commented time:all"
    assert row.fields["count"] == 3
    assert row.actor_label == "Alice Ames"


def test_a_page_refuses_an_export_beyond_its_limit(sealed):
    sealed(5)
    query = filters.read("time:all", now=timezone.now())

    with pytest.raises(export.TooLarge, match="5 events match"):
        export.prepare(query, kind="csv", actor=ALICE, now=timezone.now(), limit=4)


def test_r44_csv_cells_start_no_formula(sealed, write, exported):
    hostile = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\uff1d1", " =1", "a\x1b[31m\nb"]
    for text in hostile:
        write(1, actor=ALICE.__class__("user", "1", text))
    sealed(0, is_new=False)

    text = exported(kind="csv").read_bytes().decode()
    rows = list(csv.DictReader(text.splitlines()))

    assert len(rows) == len(hostile)
    assert all(row["actor"][0] in "'a" for row in rows)
    assert "\x1b" not in text
    assert text.count("\r\n") == text.count("\n") == len(hostile) + 1


@given(st.text(max_size=30))
def test_r44_no_cell_starts_a_formula(text):
    cell = export.neutral(text)

    assert not cell.lstrip(" \u00a0\u3000").startswith(
        ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
    )
    assert "\n" not in cell


MUTATIONS = {
    "an edited name": lambda rows: _replace(rows, 5, "Alice Ames", "Alice Amez"),
    "an edited field": lambda rows: _replace(rows, 5, '"line', '"lime'),
    "an edited leaf": lambda rows: _flip_leaf(rows, 5),
    "event and leaf edited together": lambda rows: _forge(rows, 5),
    "a deleted event": lambda rows: rows.pop(5),
    "a deleted first event": lambda rows: rows.pop(1),
    "a deleted tail": lambda rows: rows.__delitem__(slice(-3, None)),
    "a duplicate": lambda rows: rows.insert(5, rows[5]),
    "two events swapped": lambda rows: rows.__setitem__(slice(5, 7), [rows[6], rows[5]]),
    "a moved clock": lambda rows: _replace(rows, 5, '"at":"20', '"at":"19'),
    "an extra member": lambda rows: _replace(rows, 5, '{"seq"', '{"note":"x","seq"'),
    "a member twice": lambda rows: _replace(rows, 5, '{"v":1,', '{"event":"request.done","v":1,'),
    "a float": lambda rows: _replace(rows, 5, '"v":1', '"v":1.0'),
    "an edited statement": lambda rows: _replace(rows, 0, "time:all", "time:7d"),
    "an edited checkpoint": lambda rows: _replace(rows, 0, "number ", "number 1"),
    "junk": lambda rows: rows.insert(5, "[]\n"),
    "an edited number": lambda rows: _replace(rows, 5, '"seq":', '"seq":1'),
}


def _replace(rows, index, old, new):
    assert old in rows[index]
    rows[index] = rows[index].replace(old, new)


def _flip_leaf(rows, index):
    row = json.loads(rows[index])
    row["leaf"] = "0" * 64
    rows[index] = json.dumps(row) + "\n"


def _forge(rows, index):
    row = json.loads(rows[index])
    row["event"]["actor"]["label"] = "Mallory"
    row["leaf"] = verify_ledger.leaf_of(row["event"]).hex()
    rows[index] = json.dumps(row) + "\n"


@pytest.mark.parametrize("name", MUTATIONS)
def test_r50_the_offline_verifier_finds(name, sealed, exported):
    sealed(20)
    path = exported()
    assert _faults(path) == []

    _edit(path, MUTATIONS[name])

    assert _faults(path)


def test_r50_an_edit_names_the_event(sealed, exported):
    sealed(20)
    path = exported()

    _edit(path, MUTATIONS["an edited field"])

    assert _faults(path)[0].startswith("Event 5 was edited: request.commented at 20")


def test_r50_a_shorter_genuine_checkpoint_does_not_hide_the_tail(sealed, exported, settings):
    sealed(20)
    old = exported(name="old")
    sealed(20)
    statement = json.loads(exported(name="new").read_text().splitlines()[0])["statement"]

    def swap(rows):
        rows[0] = json.dumps({**json.loads(rows[0]), "statement": statement}) + "\n"

    _edit(old, swap)

    assert _faults(old, settings.CHECKPOINT_DIR)


def test_r50_checkpoints_outside_are_checked(sealed, exported, settings, tmp_path):
    for number in range(4):
        sealed(5, now=timezone.now() + timedelta(seconds=number))
    path, directory = exported(), settings.CHECKPOINT_DIR
    notes = sorted(directory.glob("*/*.note"))

    text = notes[1].read_text()
    notes[1].write_text(text.replace("number 2", "number 9"))
    assert any("cannot be trusted" in fault for fault in _faults(path, directory))
    notes[1].unlink()
    assert any("missing" in fault for fault in _faults(path, directory))
    notes[1].write_text(_resigned(text, tmp_path))
    assert any("cannot be trusted" in fault for fault in _faults(path, directory))
    notes[1].write_text(text)
    assert _faults(path, directory) == []


def test_r50_a_fork_signed_with_the_real_key_is_found(sealed, exported, settings, signer):
    sealed(5)
    head = checkpoints.head(sealed(5))
    path = exported()
    fork = note.Head(head.origin, head.size, b"\x01" * 32, head.number, head.at)
    place = settings.CHECKPOINT_DIR / "other.note"
    place.write_text(note.sign(fork.body(), name=fork.origin, signer=signer))

    assert any("fork" in fault for fault in _faults(path, settings.CHECKPOINT_DIR))


def _resigned(text, where):
    path = where / "foreign.key"
    path.write_text(signing.new_key())
    body = text.rpartition("\n\n")[0] + "\n"
    return note.sign(body, name=body.split("\n")[0], signer=signing.Ed25519Signer(path))


def test_r50_a_file_signed_with_another_key_is_refused(sealed, exported, tmp_path):
    sealed(5)
    path = exported()
    key = tmp_path / "foreign.key"
    key.write_text(signing.new_key())
    foreign = note.Verifier(checkpoints.verifier().name, signing.Ed25519Signer(key).public)

    assert any("another key has signed it" in fault for fault in _faults(path, trust=foreign))


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_r50_no_flipped_bit_of_an_export_passes(data, whole_export):
    raw = bytearray(whole_export[0])
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))

    assert not _passes(bytes(raw), whole_export)


def _passes(raw, original):
    """A change of white space, or of an escape, changes nothing that is said: compare meanings."""
    path, trust = original[1], original[2]
    path.write_bytes(raw)
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            report = verify_ledger.verify_export(iter(file), trusted=trust, checkpoints=None)
    except (verify_ledger.Bad, UnicodeDecodeError):
        return False
    return not report.faults and _meaning(raw) != _meaning(original[0])


def _meaning(raw):
    rows = [json.loads(line) for line in raw.decode().splitlines() if line.strip()]
    return [{**row, "leaf": row["leaf"].lower()} if "leaf" in row else row for row in rows]


@pytest.fixture
def whole_export(sealed, exported, tmp_path):
    sealed(30)
    path = exported()
    return (
        path.read_bytes(),
        tmp_path / "mutated",
        verify_ledger.Key.parse(str(checkpoints.verifier())),
    )


def test_r52_the_verifier_runs_alone(sealed, exported, tmp_path, settings):
    sealed(12)
    path = exported()
    alone = tmp_path / "alone"
    alone.mkdir()
    script = alone / "verify_ledger.py"
    script.write_text(Path(verify_ledger.__file__).read_text())
    # A finder that refuses the product and its framework stands in for another machine.
    (alone / "sitecustomize.py").write_text(
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('django', 'keyvault', 'approvals', 'psycopg'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
    )
    command = [
        sys.executable,
        str(script),
        str(path),
        "--checkpoints",
        str(settings.CHECKPOINT_DIR),
    ]
    command += ["--trust", str(settings.CHECKPOINT_DIR / "ledger.vkey")]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(alone)}

    good = subprocess.run(command, env=env, cwd=alone, capture_output=True, text=True, check=False)
    _edit(path, MUTATIONS["an edited field"])
    bad = subprocess.run(command, env=env, cwd=alone, capture_output=True, text=True, check=False)
    none = subprocess.run(
        [*command[:2], str(script)], env=env, cwd=alone, capture_output=True, text=True, check=False
    )

    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("INTACT   12 events shown, 12 covered by")
    assert bad.returncode == 1
    assert "Event 5 was edited" in bad.stdout
    assert none.returncode == 2
