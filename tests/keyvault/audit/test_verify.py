"""Online verification: an honest ledger is intact, and no tampered one is."""

import shutil
import uuid
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyvault.audit import checkpoints, sequencer, trust, verifications, verify
from keyvault.audit.models import Event, VerificationRun
from keyvault.cli import verify_ledger
from keyvault.crypto import signing
from tests.keyvault.audit import mutations
from tests.keyvault.audit.conftest import ALICE

pytestmark = pytest.mark.django_db

CALM = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)


@pytest.fixture
def world(sealed, tmp_path):
    """Three hundred events under five checkpoints, and a key that is not ours."""
    for number in range(5):
        sealed(60, now=timezone.now() + timedelta(milliseconds=number))
    path = tmp_path / "foreign.key"
    path.write_text(signing.new_key())
    return SimpleNamespace(
        sink=checkpoints.sink(),
        foreign=signing.Ed25519Signer(path),
        kept=shutil.copytree(checkpoints.sink().path, tmp_path / "kept"),
        fresh=uuid.uuid4(),
    )


def _kinds(result):
    return {problem.kind for problem in result.problems}


def test_an_honest_ledger_is_intact(world, write):
    write(5)
    sequencer.drain()
    seen = []

    result = verify.verify(timezone.now(), report=seen.append)

    assert result.problems == []
    assert (result.size, result.checkpoints) == (305, 5)
    assert seen[-1].checked == seen[-1].total == 305
    assert result.events_per_s > 0


def test_an_empty_ledger_is_intact():
    assert verify.verify(timezone.now()).is_intact


def _tampered(data, world):
    """Apply one mutation in a savepoint that is rolled back, and return what verify says."""
    mutation = data.draw(st.sampled_from(mutations.ALL), label="mutation")
    try:
        with transaction.atomic():
            mutation(data, world)
            found = verify.verify(timezone.now())
            transaction.set_rollback(True)
    finally:
        shutil.rmtree(world.sink.path)
        shutil.copytree(world.kept, world.sink.path)
    return mutation.__name__, found


@settings(max_examples=100, deadline=None, suppress_health_check=CALM)
@given(data=st.data())
def test_r50_every_random_mutation_is_detected(data, world):
    name, found = _tampered(data, world)

    assert found.problems, name


@pytest.mark.campaign
@settings(max_examples=1000, deadline=None, suppress_health_check=CALM)
@given(data=st.data())
def test_r50_a_thousand_random_mutations_are_detected(data, world):
    name, found = _tampered(data, world)

    assert found.problems, name


def test_r50_each_mutation_is_called_by_its_kind(world):
    mutations.run("UPDATE keyvault_event SET actor_label = 'Eve' WHERE id = %s", [_event(7).id])
    result = verify.verify(timezone.now())

    assert [(problem.kind, problem.seq) for problem in result.problems] == [("edited", 7)]


def test_r50_a_deleted_event_is_a_gap_named_once(world):
    mutations.run("DELETE FROM keyvault_ledgerleaf WHERE seq = 100")
    mutations.run("DELETE FROM keyvault_event WHERE id = %s", [uuid.uuid4()])
    result = verify.verify(timezone.now())

    assert [(problem.kind, problem.seq) for problem in result.problems] == [("gap", 100)]


def test_r50_a_forged_leaf_is_bracketed_by_checkpoints(world):
    event = _event(100)
    forged = event.entry()._replace(actor_label="Eve")
    mutations.run("UPDATE keyvault_event SET actor_label = 'Eve' WHERE id = %s", [event.id])
    mutations.run("UPDATE keyvault_ledgerleaf SET leaf_hash = %s WHERE seq = 100", [forged.leaf()])
    result = verify.verify(timezone.now())

    assert "root" in _kinds(result)
    assert any("Events 61 to 120 do not lead" in one.sentence for one in result.problems)
    assert sum(problem.kind == "root" for problem in result.problems) == 1


def test_an_event_that_waits_too_long_is_a_problem(world, write):
    write(1)
    result = verify.verify(timezone.now() + timedelta(minutes=2))

    assert _kinds(result) == {"unplaced"}


def test_a_clock_that_was_moved_is_a_problem(write):
    write(1)
    sequencer.drain()
    checkpoints.run_once(timezone.now() - timedelta(hours=1), is_forced=True)

    assert _kinds(verify.verify(timezone.now())) == {"clock"}


def test_the_command_says_intact_with_a_rate(world, capsys):
    call_command("audit_verify")

    out = capsys.readouterr().out
    assert "INTACT" in out
    assert "events/s" in out
    assert VerificationRun.objects.get().state == "intact"
    assert Event.objects.get(event="audit.verified").fields["events"] == 300


def test_the_command_fails_on_an_altered_ledger(world, capsys):
    mutations.run("UPDATE keyvault_event SET actor_label = 'Eve' WHERE id = %s", [_event(7).id])

    with pytest.raises(SystemExit) as stop:
        call_command("audit_verify")

    assert stop.value.code == 1
    assert "Event 7" in capsys.readouterr().out


def test_the_export_command_writes_a_file_that_verifies(world, tmp_path, capsys):
    path = tmp_path / "export.jsonl"
    call_command("audit_export", "--output", str(path))

    assert verify_ledger.main([str(path)]) == 0
    assert "300 events" in capsys.readouterr().err


def test_the_search_command_prints_what_matches(world, capsys):
    call_command("audit_search", "action:request.commented", "--limit", "3")

    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(SystemExit) as stop:
        call_command("audit_search", "actr:alice")
    assert stop.value.code == 2


def test_trust_says_what_it_knows(world, settings):
    now = timezone.now()
    assert trust.trust(now).level == "warn"
    assert "trigger only" in trust.trust(now).sentence
    assert (trust.trust(now).size, trust.trust(now).checkpoint_size) == (300, 300)
    assert trust.trust(now + timedelta(minutes=30)).level == "bad"

    verifications.perform(actor=ALICE, now=now, report=None)
    assert trust.trust(now).verified_size == 300
    mutations.run("UPDATE keyvault_event SET actor_label = 'Eve' WHERE id = %s", [_event(7).id])
    verifications.perform(actor=ALICE, now=now, report=None)
    assert "altered" in trust.trust(now).sentence


def test_trust_counts_what_waits(world, write):
    write(2)

    found = trust.trust(timezone.now() + timedelta(seconds=30))

    assert found.waiting == 2
    assert found.lag_s >= 29


def _event(seq):
    return Event.objects.get(leaf__seq=seq)
