"""`keyvault lock`: resolve pyproject.toml anew into the hashed locks of requirements/."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from keyvault.launcher.installation import ROOT
from keyvault.launcher.sentences import Stop

# The tests' lock is resolved under the product's, so that both hold the same versions.
_LOCKS = (
    ("run.lock", ["--extra", "embedded"]),
    ("dev.lock", ["--extra", "embedded", "--extra", "dev", "-c", "requirements/run.lock"]),
)


def run(argv: Sequence[str]) -> int:
    """Write both locks; `--upgrade` takes newer versions. Raises Stop."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        raise Stop("uv is not installed in .venv; remove .venv and start again with an index.")
    for name, options in _LOCKS:
        subprocess.run(  # noqa: S603 - our own arguments
            [
                *(str(uv), "pip", "compile", "--quiet", "--generate-hashes"),
                *("--python-version", "3.11", "--no-emit-index-url", "--no-emit-find-links"),
                *("--custom-compile-command", "./kv lock", *options, *argv),
                *("pyproject.toml", "-o", f"requirements/{name}"),
            ],
            cwd=ROOT,
            check=True,
        )
        print(f"requirements/{name}")
    return 0
