"""The keys of an installation are made once, whole, and never replaced."""

import threading

import pytest

from keyvault.crypto import keys_dir, signing
from keyvault.crypto.keys_dir import AlreadyThere, NoKeysDir


@pytest.fixture
def place(tmp_path):
    keys_dir.create(tmp_path / "keys")
    return tmp_path / "keys"


def _state(place):
    return {path.name: path.read_text() for path in place.iterdir()}


def test_create_makes_a_complete_private_set(place):
    assert {path.name for path in place.iterdir()} == set(keys_dir.FILES)
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o400}
    assert len(set(_state(place).values())) == len(keys_dir.FILES)


def test_create_never_replaces_a_key(place):
    before = _state(place)

    with pytest.raises(AlreadyThere):
        keys_dir.create(place)

    assert _state(place) == before


def test_create_does_not_complete_a_set_of_which_a_part_is_lost(place):
    (place / "kek").unlink()

    with pytest.raises(AlreadyThere):
        keys_dir.create(place)


def test_create_by_two_at_once_makes_one_set(tmp_path):
    target, barrier, outcomes = tmp_path / "keys", threading.Barrier(6), []

    def work():
        barrier.wait()
        try:
            keys_dir.create(target)
            outcomes.append("made")
        except AlreadyThere:
            outcomes.append("there")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["made"] + ["there"] * 5
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]
    keys_dir.load(target)


def test_load_returns_signers_that_differ(place):
    keys = keys_dir.load(place)

    assert len({keys.receipt.public, keys.checkpoint.public, keys.issuer.public}) == 3
    signing.verify(keys.receipt.public, keys.receipt.sign(b"message"), b"message")


def test_load_names_what_is_missing(place):
    (place / "receipt.key").unlink()

    with pytest.raises(NoKeysDir, match=r"receipt\.key"):
        keys_dir.load(place)


def test_load_refuses_a_key_that_others_may_read(place):
    (place / "index.key").chmod(0o444)

    with pytest.raises(NoKeysDir, match="chmod"):
        keys_dir.load(place)


def test_load_refuses_a_damaged_key_without_repeating_it(place):
    path = place / "receipt.key"
    path.chmod(0o600)
    path.write_text("deadbeef")

    with pytest.raises(signing.BadKey) as caught:
        keys_dir.load(place)

    assert "deadbeef" not in str(caught.value)
