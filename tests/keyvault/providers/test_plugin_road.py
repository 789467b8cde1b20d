"""The road of a third party: build the example plug-in, install it, allow it, use it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from keyvault.launcher.installation import ROOT

PLUGIN = ROOT / "docs/examples/plugin"

# What a process of keyvault does at its start, and then one life of a key.
KINDS = """
import django
django.setup()
from keyvault.providers import registry
import json
print(json.dumps({kind: found.label for kind, found in registry.kinds().items()}))
"""
ONE_LIFE = """
import django
django.setup()
import json
from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import call
from keyvault.providers import registry
from keyvault.providers.base import tag_of
from vendor import serving

provider = registry.provider("example")
with serving() as vendor:
    def ctx():
        where = f"http://127.0.0.1:{vendor.port}"
        guard = outbound.Guard((outbound.Allowance.parse(where),))
        admin = {"admin": Secret.of(vendor.admin)}
        return call(guard, timeout_s=10, config={"url": where}, options={}, admin=admin)

    attempt = provider.prepare(ctx(), "ab12", 1, None)
    issued = provider.create(ctx(), attempt)
    alive = provider.validate(ctx(), issued).verdict
    names = [name for name, _ in vendor.keys.values()]
    provider.revoke(ctx(), issued.key(), kill_sessions=True)
    dead = provider.validate(ctx(), issued).verdict
print(json.dumps({"names": names, "alive": alive, "dead": dead, "left": len(vendor.keys)}))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Return the interpreter of a new environment: this tree, its dependencies, and the plug-in."""
    place = tmp_path_factory.mktemp("road") / "env"
    venv.create(place, with_pip=False, symlinks=True)
    interpreter = place / "bin/python"
    [packages] = place.glob("lib/python*/site-packages")
    # keyvault is what this tree holds, with the libraries that were installed for it.
    (packages / "keyvault.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(interpreter), "--quiet"),
            *("--disable-pip-version-check", "install", "--no-deps", str(PLUGIN)),
        ],
        check=True,
        cwd=place,
        stdin=subprocess.DEVNULL,
    )
    return interpreter


def run(python: Path, program: str, *, allowed: str) -> subprocess.CompletedProcess[str]:
    """Run a program as a process of keyvault that needs no database."""
    return subprocess.run(
        [str(python), "-c", program],
        cwd=python.parent,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(PLUGIN / "tests"),
            "DJANGO_SETTINGS_MODULE": "keyvault.settings",
            "DATABASE_URL": "postgresql://kv_app@/keyvault?host=/nowhere",
            "KEYVAULT_SECRET_KEY": "k" * 64,
            "KEYVAULT_BROKER_URL": "redis://127.0.0.1:1/0",
            "KEYVAULT_PUBLIC_URL": "https://keyvault.example",
            "KEYVAULT_ALLOWED_PLUGINS": allowed,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_r42_an_installed_plugin_stays_unloaded_without_the_allow_list(python):
    done = run(python, KINDS, allowed="")
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout)
    assert "postgresql" in kinds
    assert "example" not in kinds


def test_an_allowed_plugin_loads_by_its_own_name_and_version(python):
    done = run(python, KINDS, allowed="kv-example")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["example"] == "kv-example 1.0.0"


def test_an_allowed_plugin_makes_and_ends_a_key(python):
    done = run(python, ONE_LIFE, allowed="kv-example")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "names": ["kv-ab12-1"],
        "alive": "valid",
        "dead": "invalid",
        "left": 0,
    }


def test_a_name_that_is_not_installed_stops_the_start(python):
    done = run(python, KINDS, allowed="kv-example,kv-absent")
    assert done.returncode != 0
    assert "not installed: kv-absent" in done.stderr


def test_the_plugins_own_tests_pass_where_it_is_installed(python, tmp_path):
    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PLUGIN)],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"([0-9]+) passed", done.stdout)
    assert passed is not None, done.stdout
    assert int(passed[1]) > 15, "the conformance suite was not among them"
