"""What an env file in particular must and must not do, on a real file system."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import dotenv
import pytest

from keyvault.crypto.secret import Secret
from keyvault.destinations.base import Conflict, Denied, Misconfigured, State, Transient, Version
from keyvault.destinations.env_file import EnvFile, directory
from keyvault.destinations.testing import DestinationConformance, make_version, put_live
from tests.contracts.env_file_bench import EnvFileBench

UPDATES, READERS = 300, 3
READER = """
import hashlib, json, os, sys
path, stop = sys.argv[1:]
reads = torn = 0
while True:
    is_over = os.path.exists(stop)
    with open(path, newline="") as file:
        head, _, body = file.read().partition("\\n")
        mode = os.fstat(file.fileno()).st_mode & 0o777
    version_id, digest = (head.split() + [""] * 4)[2:4]
    marked = json.dumps([version_id, [["body", body]]]).encode()
    is_whole = digest == "sha256:" + hashlib.sha256(marked).hexdigest() and version_id and version_id in body
    reads, torn = reads + 1, torn + (not is_whole or mode != 0o600)
    if is_over:
        break
print(reads, torn)
"""


@pytest.fixture
def bench(tmp_path: Path) -> EnvFileBench:
    return EnvFileBench(tmp_path)


class TestConformance(DestinationConformance):
    pass


def version_of(**values: str) -> Version:
    return replace(make_version(), fields={part: Secret.of(v) for part, v in values.items()})


def with_options(bench: EnvFileBench, **options: str) -> EnvFileBench:
    bench.options = {**bench.options, **options}
    return bench


def test_no_reader_sees_half_of_an_update(bench, tmp_path):
    """Other processes read without pause while a file of 40 KB is replaced."""
    stop = tmp_path / "stop"

    def next_version() -> Version:
        made = make_version()
        return replace(made, fields={"value": Secret.of(f"{made.id} " + "x" * 40_000)})

    before = next_version()
    put_live(bench, before)
    command = [sys.executable, "-c", READER, str(bench.file), str(stop)]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(READERS)]
    try:
        for _ in range(UPDATES):
            following = next_version()
            put_live(bench, following, before)
            before = following
    finally:
        stop.touch()
        said = [reader.communicate(timeout=30)[0] for reader in readers]
    counts = [tuple(map(int, line.split())) for line in said]
    assert [torn for _, torn in counts] == [0] * READERS
    assert sum(reads for reads, _ in counts) > UPDATES
    assert bench.destination.verify(bench.call(), before).state is State.OK


VALUES = [
    "plain-sk_123",
    "two words",
    "quote \" and ' and \\ and \\\\ and \\n",
    "#no comment",
    "$HOME `id` $(id) !x",
    "ünï\u2003cödé",
    "line\nbreak\n",
    "",
    " spaces around ",
    "-----BEGIN KEY-----\nMIIB+/==\n-----END KEY-----\n",
    "ends in \\",
    "a'b'\\'c",
]


@pytest.mark.parametrize("value", VALUES)
def test_a_dotenv_library_reads_exactly_the_value(bench, value):
    put_live(bench, version_of(value=value))
    assert dotenv.dotenv_values(bench.file) == {"API_KEY": value, "DB_USER": "orders_1"}


@pytest.mark.parametrize("value", [*VALUES, "${HOME}", "car\rriage"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_shell_reads_exactly_the_value(bench, value, shell):
    put_live(with_options(bench, format="shell"), version_of(value=value))
    script = f'. "{bench.file}"; printf %s. "$API_KEY"'
    read = subprocess.run([shell, "-c", script], capture_output=True, check=True)
    assert read.stdout == value.encode() + b"."


@pytest.mark.parametrize("value", ["plain", "with ' and \" and $ #", "a=b"])
def test_a_plain_file_holds_the_value_as_it_is(bench, value):
    put_live(with_options(bench, format="plain"), version_of(value=value))
    assert f"\nAPI_KEY={value}\n" in bench.file.read_text()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("plain", "line\nbreak"),
        ("plain", "line\u2028break"),
        ("plain", " padded"),
        ("plain", "nul\0"),
        ("dotenv", "${HOME}"),
        ("dotenv", "car\rriage"),
        ("dotenv", "nul\0"),
        ("shell", "nul\0"),
        ("yaml", "x"),
    ],
)
def test_a_value_that_would_be_read_otherwise_is_refused(bench, kind, value):
    version = version_of(value=value)
    with pytest.raises(Misconfigured) as refused:
        put_live(with_options(bench, format=kind), version)
    assert value not in str(refused.value) or kind == "yaml"
    assert list(bench.place.iterdir()) == []


def test_a_value_that_is_no_text_is_refused_without_being_repeated(bench):
    version = replace(make_version(), fields={"value": Secret.of(b"\xff\xfesecret")})
    with pytest.raises(Misconfigured) as refused:
        put_live(bench, version)
    assert "secret" not in repr(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    "variables",
    ["", "value", "value=", "=X", "value=1X", "value=A-B", "value=A value=B", "value=A username=A"],
)
def test_variables_that_cannot_be_are_refused(bench, variables):
    with_options(bench, variables=variables or ",")
    with pytest.raises(Misconfigured):
        put_live(bench, make_version())


def test_a_part_that_the_key_does_not_have_is_refused(bench):
    with pytest.raises(Misconfigured, match="no part named token"):
        put_live(with_options(bench, variables="token=TOKEN"), make_version())


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400, 0o440])
def test_the_file_has_the_chosen_mode_whatever_the_umask(bench, mode):
    old = os.umask(0o077)
    try:
        put_live(with_options(bench, mode=f"{mode:04o}"), make_version())
    finally:
        os.umask(old)
    assert bench.file.stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("mode", ["0644", "0666", "0777", "4600", "x"])
def test_a_mode_that_lets_others_read_is_refused(bench, mode):
    with pytest.raises(Misconfigured):
        put_live(with_options(bench, mode=mode), make_version())


def test_a_widened_mode_shows_and_is_mended(bench):
    version = make_version()
    put_live(bench, version)
    bench.file.chmod(0o644)
    assert bench.destination.verify(bench.call(), version).state is State.PENDING
    put_live(bench, version)
    assert bench.file.stat().st_mode & 0o777 == 0o600


def test_other_variables_of_the_same_version_are_written_anew(bench):
    version = make_version()
    put_live(bench, version)
    put_live(with_options(bench, variables="value=OTHER"), version)
    assert list(dotenv.dotenv_values(bench.file)) == ["OTHER"]
    assert bench.destination.verify(bench.call(), version).state is State.OK


def at(bench: EnvFileBench, path: Path | str) -> EnvFileBench:
    bench.place = Path(path)
    return bench


@pytest.mark.parametrize(
    "path",
    [
        "/etc",
        "{root}/../other",
        "{root}x",
        "{root}/svc/",
        "{root}//svc",
        "{root}/./svc",
        "svc",
        "",
        "/{root}",
    ],
)
def test_a_directory_outside_the_roots_is_refused(bench, tmp_path, path):
    wanted = path.format(root=tmp_path)
    ctx = replace(bench.call(), config={"directory": wanted})
    for call in (
        lambda: bench.destination.observe(ctx),
        lambda: bench.destination.promote(ctx, make_version(), None),
        lambda: bench.destination.cleanup(ctx, []),
    ):
        with pytest.raises(Misconfigured):
            call()
    assert bench.destination.check(ctx)


def test_without_roots_nothing_can_be_written(bench):
    ctx = bench.call()
    with pytest.raises(Misconfigured, match="KEYVAULT_ENV_FILE_ROOTS"):
        EnvFile().promote(ctx, make_version(), None)
    assert EnvFile().check(ctx)
    assert list(bench.place.iterdir()) == []


def test_the_file_system_as_a_root_opens_nothing(bench):
    with pytest.raises(Misconfigured):
        EnvFile(("/",)).observe(bench.call())


@pytest.mark.parametrize("where", ["last", "middle", "root"])
def test_a_link_in_the_path_is_not_followed(bench, tmp_path, where):
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "deep").mkdir(parents=True)
    link.symlink_to(real)
    path = {"last": link, "middle": link / "deep", "root": link / "deep"}[where]
    roots = (str(link),) if where == "root" else (str(tmp_path),)
    plugin = EnvFile(roots)
    with pytest.raises(Misconfigured):
        plugin.promote(at(bench, path).call(), make_version(), None)
    assert list((real / "deep").iterdir()) == []


@pytest.mark.parametrize("made", ["link", "pipe", "directory", "socketless"])
def test_what_is_no_regular_file_is_foreign_and_stays(bench, tmp_path, made):
    victim = tmp_path / "victim"
    victim.write_text("theirs")
    if made == "link":
        bench.file.symlink_to(victim)
    elif made == "pipe":
        os.mkfifo(bench.file)
    elif made == "directory":
        bench.file.mkdir()
    else:
        bench.file.symlink_to(tmp_path / "nowhere")
    assert bench.destination.observe(bench.call()).is_foreign
    with pytest.raises(Conflict):
        bench.destination.promote(bench.call(), make_version(), None)
    assert victim.read_text() == "theirs"
    assert bench.file.is_symlink() == (made in {"link", "socketless"})


def test_a_link_in_the_place_of_a_hidden_file_is_replaced_and_not_followed(bench, tmp_path):
    victim, version = tmp_path / "victim", make_version()
    victim.write_text("theirs")
    for name in (".app.env.kv-draft", f".app.env.{version.id}.kv-staged"):
        (bench.place / name).symlink_to(victim)
    put_live(bench, version)
    assert victim.read_text() == "theirs"
    assert not bench.file.is_symlink()
    assert [path.name for path in bench.place.iterdir()] == ["app.env"]


@pytest.mark.parametrize("file", ["", ".", "..", "a/b", "/etc/passwd", "x.kv-staged", "a b", "-x"])
def test_a_name_that_is_no_plain_one_is_refused(bench, file):
    with pytest.raises(Misconfigured):
        put_live(with_options(bench, file=file), make_version())


def test_cleanup_takes_away_what_a_crash_has_left_and_nothing_else(bench):
    version, other = make_version(), make_version()
    put_live(bench, version)
    theirs = [".app.env.swp", ".other.env.kv-draft", f".other.env.{other.id}.kv-staged", "x"]
    for name in (".app.env.kv-draft", *theirs):
        (bench.place / name).write_text("")
    bench.destination.cleanup(bench.call(), [])
    assert sorted(path.name for path in bench.place.iterdir()) == sorted(["app.env", *theirs])


def test_two_files_of_one_directory_know_nothing_of_each_other(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    put_live(with_options(bench, file="app.env.local"), second)
    bench.destination.stage(bench.call(), make_version(3))
    with_options(bench, file="app.env")
    assert bench.destination.observe(bench.call()).staged == ()
    assert bench.destination.observe(bench.call()).live == first.id


def test_a_failure_before_the_replacement_is_transient(bench, monkeypatch):
    """A full disk: nothing has changed, and the draft goes at the next try."""
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    before = bench.consumed()
    with bench._failing(("fsync",), after=False), pytest.raises(Transient):
        bench.destination.promote(bench.call(), second, first.id)
    assert bench.consumed() == before
    put_live(bench, second, first)
    assert [path.name for path in bench.place.iterdir()] == ["app.env"]


def test_a_directory_that_is_gone_needs_a_person(bench):
    bench.place.rmdir()
    with pytest.raises(Misconfigured, match="ENOENT"):
        bench.destination.observe(bench.call())


NOBODY = """
import sys
sys.path.insert(0, {root!r})
import os
from keyvault import outbound
from keyvault.destinations.base import Denied
from keyvault.destinations.env_file import EnvFile
from keyvault.destinations.testing import make_version
from keyvault.plugins.context import call
os.setgid(65534)
os.setuid(65534)
plugin = EnvFile(({place!r},))
ctx = call(outbound.Guard(), timeout_s=5, config={{"directory": {place!r}}},
           options={{"file": "app.env"}}, admin={{}})
print([problem.sentence for problem in plugin.check(ctx)])
try:
    plugin.stage(ctx, make_version())
except Denied as error:
    print("denied", error.sentence)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_missing_right_shows_at_the_stage():
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        script = NOBODY.format(root=str(Path(directory.__file__).parents[3]), place=name)
        ran = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
    assert "may not write" in ran.stdout, ran.stderr
    assert "denied" in ran.stdout


def test_check_warns_of_a_directory_that_everybody_may_write(bench):
    bench.place.chmod(0o777)
    (problem,) = bench.destination.check(bench.call())
    assert "Every user" in problem.sentence


def test_check_of_a_directory_alone_needs_no_file(bench):
    assert bench.destination.check(replace(bench.call(), options={})) == []


def test_a_refusal_of_the_system_is_denied(bench, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "no")

    put_live(bench, first := make_version())
    monkeypatch.setattr(directory.os, "rename", refuse)
    with pytest.raises(Denied, match="EACCES"):
        bench.destination.promote(bench.call(), make_version(), first.id)
