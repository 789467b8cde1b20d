"""A process has the right key-encryption key, or it is sealed and says why."""

import pytest

from keyvault.crypto import envelope, keyring
from keyvault.crypto.keyring import LocalKek, NoKey
from keyvault.crypto.secret import Secret
from tests.keyvault.crypto.rings import Counting, ring
from tests.keyvault.crypto.test_envelope import PLACE, VALUE


@pytest.fixture
def installed():
    before = (keyring._Installed.ring, keyring._Installed.guard, keyring._Installed.proved)
    yield
    keyring._Installed.ring, keyring._Installed.guard, keyring._Installed.proved = before


def _load(spec, environ=None):
    return keyring.load(spec, environ=environ or {}, budget=Counting())


def test_load_reads_a_file_that_only_its_owner_may_read(tmp_path):
    path = tmp_path / "kek"
    path.write_text(keyring.new_kek() + "\n")
    path.chmod(0o400)

    blob = envelope.seal(Secret(VALUE), context=PLACE, ring=_load(f"file:{path}"))

    assert envelope.open(blob, context=PLACE, ring=_load(f"file:{path}")).reveal() == VALUE


def test_load_reads_a_variable():
    assert _load("env:KEK", {"KEK": keyring.new_kek()}).active_id


def test_load_seals_with_the_last_key_and_opens_with_all():
    first, second = keyring.new_kek(), keyring.new_kek()

    both = _load("env:KEK", {"KEK": f"{first}\n{second}\n"})

    assert both.active_id == _load("env:KEK", {"KEK": second}).active_id
    assert len(both.ids()) == 2


@pytest.mark.parametrize("text", ["", "hello", "kvk1:@@@", "kvk1:c2hvcnQ=", "kvk2:" + "A" * 44])
def test_r5_load_refuses_what_is_no_key_without_repeating_it(text):
    with pytest.raises(NoKey) as caught:
        _load("env:KEK", {"KEK": text})

    assert "hello" not in str(caught.value)
    assert "c2hvcnQ" not in str(caught.value)


def test_r5_load_refuses_a_file_that_others_may_read(tmp_path):
    path = tmp_path / "kek"
    path.write_text(keyring.new_kek())
    path.chmod(0o440)

    with pytest.raises(NoKey, match="chmod 0400"):
        _load(f"file:{path}")


def test_r5_load_makes_no_key_where_there_is_none(tmp_path):
    path = tmp_path / "kek"

    with pytest.raises(NoKey):
        _load(f"file:{path}")

    assert not path.exists()


@pytest.mark.parametrize("spec", ["", "kek", "vault:x", "http://x"])
def test_load_refuses_an_unknown_scheme(spec):
    with pytest.raises(NoKey, match="takes file:PATH or env:NAME"):
        _load(spec)


def test_a_key_is_known_by_its_id_and_proved_by_its_check_value():
    one, same, other = LocalKek(bytes(32)), LocalKek(bytes(32)), LocalKek(bytes(31) + b"\1")

    assert (one.id, one.check) == (same.id, same.check)
    assert one.id != other.id
    assert one.check != other.check
    assert bytes(32)[:16] not in one.id + one.check


def test_a_root_key_is_unwrapped_once_and_wraps_from_then_on():
    remote = LocalKek(bytes(32))
    wrapped = keyring.new_root(remote)

    root = keyring.root_kek(remote, wrapped)

    assert root.id == keyring.root_kek(remote, wrapped).id != remote.id
    with pytest.raises(envelope.Refused):
        keyring.root_kek(LocalKek(b"\1" * 32), wrapped)


@pytest.mark.usefixtures("installed")
def test_r5_active_refuses_while_sealed_and_says_why():
    keyring.uninstall("The key file is gone.")

    with pytest.raises(NoKey, match="The key file is gone"):
        keyring.active()


@pytest.mark.usefixtures("installed")
def test_r5_active_asks_the_guard_until_it_is_satisfied():
    asked = []
    answers = iter([False, True])

    def guard(candidate):
        asked.append(candidate)
        return next(answers)

    mine = ring()
    keyring.install(mine, guard=guard)

    assert [keyring.active() for _ in range(4)] == [mine] * 4
    assert asked == [mine, mine]


@pytest.mark.usefixtures("installed")
def test_r5_active_refuses_as_long_as_the_guard_does():
    def guard(candidate):
        raise NoKey("Another key sealed this database.")

    keyring.install(ring(), guard=guard)

    for _ in range(2):
        with pytest.raises(NoKey, match="Another key"):
            keyring.active()
