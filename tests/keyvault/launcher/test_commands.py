"""The management commands around a start."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from keyvault.accounts.models import Installation
from keyvault.audit import checkpoints
from keyvault.cli import verify_ledger, verify_receipt
from keyvault.crypto import keys_dir


def test_keys_are_written_once(settings, tmp_path):
    settings.KEYS_DIR, settings.DATA_DIR = tmp_path / "keys", tmp_path / "data"

    call_command("init_keys", stdout=StringIO())
    before = (settings.KEYS_DIR / keys_dir.KEK).read_bytes()

    with pytest.raises(CommandError, match="never replaced"):
        call_command("init_keys")
    assert (settings.KEYS_DIR / keys_dir.KEK).read_bytes() == before


def test_keys_inside_the_data_directory_are_refused(settings, tmp_path):
    settings.KEYS_DIR, settings.DATA_DIR = tmp_path / "keys", tmp_path

    with pytest.raises(CommandError, match="must not lie inside the data"):
        call_command("init_keys")


@pytest.mark.django_db(transaction=True)
def test_a_token_is_printed_until_set_up_and_never_after():
    out = StringIO()
    call_command("setup_token", stdout=out)
    assert len(out.getvalue().strip()) > 16

    Installation.objects.update(set_up_at="2026-01-01T00:00:00Z")

    with pytest.raises(CommandError, match="does not open again"):
        call_command("setup_token", stdout=out)


@pytest.mark.django_db(transaction=True)
def test_prepare_finds_nothing_to_do_the_second_time(settings, tmp_path):
    settings.STATIC_ROOT = str(tmp_path / "static")
    first, second = StringIO(), StringIO()

    call_command("prepare", stdout=first)
    call_command("prepare", stdout=second)

    assert {"say": "static files gathered"} in [
        json.loads(x) for x in first.getvalue().split("\n") if x
    ]
    assert [json.loads(x) for x in second.getvalue().splitlines()] == [{"empty": True}]


@pytest.mark.django_db
def test_migrate_goes_by_the_role_that_owns_the_tables(monkeypatch):
    here = connection.settings_dict
    before = dict(here)
    host, port = here["HOST"] or "localhost", here["PORT"]
    monkeypatch.setenv(
        "KEYVAULT_MIGRATE_DATABASE_URL", f"postgresql://kv_owner:x@/other?host={host}&port={port}"
    )
    seen = {}

    def stop(self, *args, **options):
        seen.update(connection.settings_dict)

    monkeypatch.setattr("django.core.management.commands.migrate.Command.handle", stop)
    monkeypatch.setattr(connection, "close", lambda: None)
    try:
        call_command("migrate")
    finally:
        here.update(before)

    assert seen["USER"] == "kv_owner"
    assert seen["NAME"] == before["NAME"]


@pytest.mark.django_db
def test_doctor_says_one_sentence_for_each_fault(settings, tmp_path, monkeypatch):
    settings.KEYS_DIR = tmp_path
    tmp_path.chmod(0o755)
    out = StringIO()

    with pytest.raises(SystemExit):
        call_command("doctor", stdout=out)

    lines = out.getvalue().splitlines()
    assert f"- Others may enter the keys directory. Run: chmod -R go= {tmp_path}" in lines
    assert any(line.startswith("- The ledger is protected by") for line in lines)
    assert lines[-1].endswith("faults")


@pytest.fixture
def signers(tmp_path):
    keys_dir.create(tmp_path / "keys")
    before = checkpoints._Installed.signer
    checkpoints.install(keys_dir.load(tmp_path / "keys").checkpoint)
    yield
    checkpoints.install(before)


@pytest.mark.django_db
def test_the_public_keys_are_printed_in_the_form_that_verifiers_take(signers):
    both, one = StringIO(), StringIO()
    call_command("public_keys", stdout=both)
    call_command("public_keys", "receipts", stdout=one)

    assert both.getvalue().splitlines() == [
        f"receipts {one.getvalue().strip()}",
        f"ledger   {checkpoints.verifier()}",
    ]
    assert verify_receipt._key(one.getvalue().strip())
    assert str(verify_ledger.Key.parse(str(checkpoints.verifier())).name)


@pytest.mark.django_db
def test_the_public_keys_of_a_sealed_installation_are_a_sentence(signers):
    checkpoints.install(None)

    with pytest.raises(CommandError, match="KEYVAULT_KEYS_DIR"):
        call_command("public_keys")
