"""Receipts verify offline with a pinned key, and no altered one does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from approvals import receipts
from approvals.selectors import history
from keyvault.cli import verify_receipt
from keyvault.crypto.signing import Ed25519Signer, new_key

pytestmark = pytest.mark.django_db


@pytest.fixture
def document(house):
    """Return a receipt of bob's approval as it is downloaded."""
    request = house.ask(reason="\u202eIt is grey.")
    decision = house.say(house.cast.bob, request, seen={"risk": 25})
    return receipts.document(decision, material=history.material_of(decision))


@pytest.fixture
def check(tmp_path, keys):
    """Return a function that verifies a document against the server's pinned key."""

    def run(document, *, trust=None):
        path = tmp_path / "receipt.json"
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")
        return verify_receipt.verify(path, keys.receipt.public.hex() if trust is None else trust)

    return run


def test_a_receipt_says_what_it_proves_and_what_not(document, check):
    words = " ".join(check(document).words())
    assert "Bob approved REQ-" in words
    assert "Paint the north wall green." in words
    assert "server-attested" in words
    assert "Not proven here" in words
    assert check(document).is_pinned


def test_a_receipt_of_an_earlier_revision_still_verifies(house, check):
    request = house.ask()
    decision = house.say(house.cast.bob, request)
    house.edit(request, colour="blue")
    document = receipts.document(decision, material=history.material_of(decision))
    assert check(document).plan["plan"]["sentence"] == "Paint the north wall green."


def test_without_a_pinned_key_the_verifier_says_so(document, check):
    found = check(document, trust="")
    assert not found.is_pinned
    assert "pin it with --trust" in " ".join(found.words())


def test_another_servers_key_is_refused(document, check, tmp_path):
    (tmp_path / "other").write_text(new_key())
    with pytest.raises(verify_receipt.Bad, match="names key"):
        check(document, trust=Ed25519Signer(tmp_path / "other").public.hex())


def _leaves(value, path=()):
    if isinstance(value, dict):
        for name in value:
            yield from _leaves(value[name], (*path, name))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _leaves(part, (*path, index))
    else:
        yield path


def _altered(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return f"{value}x" if value is not None else "x"


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_a_receipt_with_any_single_value_altered_is_refused(document, check, data):
    altered = json.loads(json.dumps(document))
    *path, last = data.draw(st.sampled_from(list(_leaves(altered))))
    place = altered
    for step in path:
        place = place[step]
    place[last] = _altered(place[last])
    if (*path, last) == ("public_key",):
        assert check(altered).is_pinned, "a pinned key makes the hint irrelevant"
        return
    with pytest.raises(verify_receipt.Bad):
        check(altered)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"receipt": 1.5}', '{"a":1,"a":2}', "[" * 99999])
def test_what_is_no_receipt_is_refused_in_a_sentence(tmp_path, text):
    path = tmp_path / "not.json"
    path.write_text(text)
    with pytest.raises(verify_receipt.Bad):
        verify_receipt.verify(path)


def test_the_verifier_runs_alone_on_another_machine(document, tmp_path, keys):
    alone = tmp_path / "alone"
    alone.mkdir()
    source = Path(verify_receipt.__file__)
    (alone / "verify_receipt.py").write_bytes(source.read_bytes())
    (alone / "receipt.json").write_text(json.dumps(document))
    command = [sys.executable, "-I", "verify_receipt.py", "receipt.json", "--trust"]
    good = subprocess.run(
        [*command, keys.receipt.public.hex()],
        cwd=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("VALID")
    document["receipt"]["verdict"] = "reject"
    (alone / "receipt.json").write_text(json.dumps(document))
    bad = subprocess.run(
        [*command, keys.receipt.public.hex()],
        cwd=alone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bad.returncode == 1
    assert "NOT VALID" in bad.stdout
