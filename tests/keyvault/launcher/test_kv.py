"""The `kv` script itself, on machines that lack something."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyvault.launcher.installation import ROOT
from tests.servers import Stack, free_port

NOBODY = 65534


@pytest.fixture
def tree(tmp_path) -> Path:
    """A tree with the script and its locks, and no `.venv`."""
    made = tmp_path / "tree"
    shutil.copytree(ROOT / "requirements", made / "requirements")
    shutil.copy(ROOT / "kv", made)
    return made


def kv(tree: Path, *arguments: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", tree / "kv", *arguments],
        env={"PATH": path, "HOME": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )


def fake(directory: Path, name: str, body: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\n{body}\n")
    (directory / name).chmod(0o755)


def tools(directory: Path) -> str:
    """Return a PATH with what every system has, and no Python."""
    directory.mkdir(exist_ok=True)
    for name in ("sh", "dirname", "basename", "cat", "cksum", "flock", "id"):
        (directory / name).symlink_to(shutil.which(name))
    return str(directory)


def test_no_python_is_one_sentence_with_the_mend(tree, tmp_path):
    result = kv(tree, "up", path=tools(tmp_path / "bin"))

    assert result.returncode == 1
    assert "needs Python 3.11 or newer" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_old_python_is_not_taken(tree, tmp_path):
    path = tools(tmp_path / "bin")
    fake(tmp_path / "bin", "python3", "exit 1")

    assert "needs Python 3.11 or newer" in kv(tree, "up", path=path).stderr


def test_a_python_without_venv_is_one_sentence(tree, tmp_path):
    path = tools(tmp_path / "bin")
    fake(
        tmp_path / "bin",
        "python3",
        'case "$1" in -c) exit 0;; --version) echo Python 3.11;; *) exit 1;; esac',
    )

    result = kv(tree, "up", path=path)

    assert result.returncode == 1
    assert "apt-get install python3-venv" in result.stderr


def test_an_installed_environment_hands_over_at_once(tree, tmp_path):
    path = tools(tmp_path / "bin")
    fake(tree / ".venv", "unused", "")
    fake(tree / ".venv" / "bin", "python", 'echo "$PYTHONPATH $*"')
    sums = (tree / "requirements" / "run.lock").read_bytes()
    stamp = subprocess.run(["cksum"], input=sums, capture_output=True, check=True).stdout
    (tree / ".venv" / ".installed-run").write_bytes(stamp)

    result = kv(tree, "up", "--port", "1", path=path)

    assert result.stdout == f"{tree} -P -m keyvault.cli up --port 1\n"
    assert result.stderr == ""


def test_a_changed_lock_is_installed_again(tree, tmp_path):
    path = tools(tmp_path / "bin")
    fake(tree / ".venv", "unused", "")
    fake(tree / ".venv" / "bin", "python", "exit 0")
    fake(tree / ".venv" / "bin", "uv", "exit 0")
    (tree / ".venv" / ".installed-run").write_text("of yesterday\n")

    result = kv(tree, "up", path=path)

    assert result.returncode == 0
    assert "installing the locked dependencies" in result.stderr
    assert kv(tree, "up", path=path).stderr == ""


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that others may pass through; pytest keeps its own to itself."""
    root = Path(tempfile.mkdtemp(prefix="kv-fresh-"))
    yield root
    shutil.rmtree(root, ignore_errors=True)


@pytest.mark.campaign
def test_a_fresh_copy_starts_as_an_ordinary_user(open_place):
    root = open_place
    tree, home = root / "tree", root / "home"
    wanted = ("approvals", "keyvault", "templates", "static", "requirements")
    for name in wanted:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "kv", tree)
    home.mkdir()
    prefix = _as_nobody(root) if os.geteuid() == 0 else []
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "KEYVAULT_"))}
    env |= {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    stack = Stack(root / "data", root / "keys", free_port(), ("--demo",))

    with stack.output.open("w") as output:
        stack.process = subprocess.Popen(
            [*prefix, tree / "kv", "up", "--data", stack.data, *stack.ports(), "--demo"],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
    stack.await_ready(300)

    assert stack.stop() == 0
    assert not list((stack.data / "run").glob("*.pid"))


def _as_nobody(root: Path) -> list[str]:
    for path in (root, *root.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
