"""What a data directory promises, and what it refuses to be mixed with."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
import sys

import pytest

from keyvault.launcher import demo, installation, places
from keyvault.launcher.sentences import Stop


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYVAULT_KEYS_DIR", str(tmp_path / "keys"))
    return installation.make_private_dir(tmp_path / "data")


def test_passwords_are_random_private_and_kept(data):
    made = installation.obtain(data, demo=False)
    again = installation.obtain(data, demo=False)

    assert made == again
    assert stat.S_IMODE((data / "installation.json").stat().st_mode) == 0o600
    assert len({made.superuser_password, made.owner_password, made.app_password}) == 3


def test_keys_are_made_once_and_lie_outside_the_data(data, tmp_path):
    installation.obtain(data, demo=False)

    assert (tmp_path / "keys" / "kek").exists()
    assert not list(data.rglob("kek"))


def test_lost_keys_are_never_made_anew(data, tmp_path):
    installation.obtain(data, demo=False)
    shutil.rmtree(tmp_path / "keys")

    installation.obtain(data, demo=False)

    assert not (tmp_path / "keys").exists()


def test_keys_inside_the_data_are_refused(data, monkeypatch):
    monkeypatch.setenv("KEYVAULT_KEYS_DIR", str(data / "keys"))

    with pytest.raises(Stop, match="must not lie inside the data"):
        installation.obtain(data, demo=False)


@pytest.mark.parametrize(("first", "then"), [(True, False), (False, True)])
def test_a_demo_and_a_real_installation_never_share_a_directory(data, first, then):
    installation.obtain(data, demo=first)

    with pytest.raises(Stop, match="Choose another place with --data"):
        installation.obtain(data, demo=then)


def test_a_directory_with_other_files_is_refused(data):
    (data / "holiday.jpg").touch()

    with pytest.raises(Stop, match=r"holiday\.jpg"):
        installation.obtain(data, demo=False)


def test_a_damaged_file_is_said_and_not_replaced(data):
    (data / "installation.json").write_text("{")

    with pytest.raises(Stop, match="is damaged"):
        installation.obtain(data, demo=False)
    assert (data / "installation.json").read_text() == "{"


def test_two_supervisors_do_not_share_a_directory(data):
    with (
        installation.lock(data),
        pytest.raises(Stop, match=r"already runs in .* \(process \d+\)"),
        installation.lock(data),
    ):
        pytest.fail("the second lock was given")


def test_a_lock_dies_with_its_holder(data):
    code = (
        "import sys, time; from pathlib import Path; from keyvault.launcher import installation\n"
    )
    code += "with installation.lock(Path(sys.argv[1])): print(1, flush=True); time.sleep(60)"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(data)], stdout=subprocess.PIPE, text=True
    )
    holder.stdout.readline()
    assert installation.is_running(data)

    holder.kill()
    holder.communicate()

    assert not installation.is_running(data)


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=12_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)

    with pytest.raises(Stop, match="Only 12 MB are free"):
        places.lay_out(tmp_path / "data")


def test_directories_are_private(tmp_path):
    where = places.lay_out(tmp_path / "data")

    for path in (where.root, where.log, where.run, where.sockets):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_sockets_of_a_long_path_lie_in_a_short_private_one(tmp_path, monkeypatch):
    short = tmp_path / "r"
    short.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    monkeypatch.setattr(places, "_SOCKET_DIR_MAX", len(str(short)) + 40)

    where = places.lay_out(tmp_path / ("long" * 20))

    assert where.sockets.parent == short
    assert stat.S_IMODE(where.sockets.stat().st_mode) == 0o700


def test_a_socket_directory_that_others_can_enter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(places, "_SOCKET_DIR_MAX", 1)
    places.lay_out(tmp_path / "data").sockets.chmod(0o777)

    with pytest.raises(Stop, match="belongs to somebody else"):
        places.lay_out(tmp_path / "data")


@pytest.mark.parametrize("name", ["KEYVAULT_PUBLIC_URL", "DATABASE_URL", "KEYVAULT_BROKER_URL"])
def test_a_demo_refuses_what_could_be_real(monkeypatch, name):
    for other in ("KEYVAULT_PUBLIC_URL", "DATABASE_URL", "KEYVAULT_BROKER_URL"):
        monkeypatch.delenv(other, raising=False)
    demo.refuse_unless_private("127.0.0.1")
    monkeypatch.setenv(name, "something")

    with pytest.raises(Stop, match=name):
        demo.refuse_unless_private("127.0.0.1")


def test_a_demo_binds_to_loopback_only():
    with pytest.raises(Stop, match="loopback only"):
        demo.refuse_unless_private("0.0.0.0")


def test_the_addresses_in_demo_json_follow_the_ports(data):
    installation.write_private(data / "demo.json", json.dumps({"url": "old", "people": []}))

    demo.note_urls(data, console="http://localhost:9000", gateway="http://localhost:9001")

    facts = json.loads((data / "demo.json").read_text())
    assert facts == {
        "url": "http://localhost:9000",
        "gateway": "http://localhost:9001",
        "people": [],
    }
    assert stat.S_IMODE((data / "demo.json").stat().st_mode) == 0o600
