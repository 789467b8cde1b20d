"""A house to talk to, and the command as its own process in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from keyvault.launcher.installation import ROOT
from tests.keyvault.client import house as houses


@pytest.fixture
def house() -> Iterator[houses.House]:
    """Return a running house with one key."""
    with houses.running() as found:
        found.put("openai-prod", "sk-first-value")
        yield found


class Terminal:
    """Start `keyvault` as a person or a job would."""

    def __init__(self, house: houses.House, home: Path) -> None:
        self.house, self.home = house, home
        self.started: list[subprocess.Popen] = []
        self.env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "USER": "alice",
        }

    def as_agent(self) -> Terminal:
        """Give it the identity of the house's agent."""
        self.env |= {
            "KEYVAULT_URL": self.house.url,
            "KEYVAULT_CLIENT_ID": houses.CLIENT_ID,
            "KEYVAULT_CLIENT_SECRET": houses.SECRET,
        }
        return self

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        """Start it with pipes."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keyvault.cli", *arguments],
            env=self.env,
            **{**pipes, **options},
        )
        self.started.append(process)
        return process

    def close(self) -> None:
        """End what still runs and close its pipes."""
        for process in self.started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)

    def run(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        process = self.start(*arguments, text=True, **options)
        out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@pytest.fixture
def terminal(house, tmp_path) -> Iterator[Terminal]:
    """Return a terminal with nobody signed in."""
    found = Terminal(house, tmp_path)
    yield found
    found.close()
