"""Where somebody keeps keys as code, before a server that is the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from approvals.models import Request
from keyvault.api import limits
from keyvault.audit.models import Event
from keyvault.inventory.models import Key
from keyvault.launcher.installation import ROOT
from tests.keyvault.actions.conftest import _registry, fake, house
from tests.keyvault.agents import builders

__all__ = ["_registry", "fake", "house"]


BOUND_S = 60


HERE, THERE = "ledger-reader", "orders-reader"


WHY = ("--yes", "--reason", "Reviewed in 42.")


FILE = f"""
[keys.{HERE}]
title = "The ledger"
labels = ["ai", "billing"]
volume_per_day = 5

[[keys.{HERE}.dependents]]
name = "refund-bot"
agent = "refund-bot"
wave = 1

[keys.{THERE}]
labels = ["ai"]
"""


@dataclass
class Desk:
    """Where somebody keeps keys as code: a file, a token, and the command."""

    home: Path
    env: dict[str, str]
    started: list[subprocess.Popen] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.home / "keys.toml"

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "keyvault.cli", *arguments],
            env=self.env,
            **{**pipes, **options},
        )
        self.started.append(process)
        return process

    def run(self, command: str, *arguments: str, file: str = FILE, code: int = 0) -> str:
        """Run the command over a file, and return what it printed: of a failure what it complained."""
        limits.buckets.clear()
        self.file.write_text(file)
        process = self.start(command, str(self.file), *arguments, text=True)
        out, err = process.communicate(timeout=BOUND_S)
        assert process.returncode == code, out + err
        self.out = out
        return err or out

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=BOUND_S)


@pytest.fixture
def desk_of(house, live_server, settings, tmp_path):
    """Return a function that gives the desk of a person or an agent."""
    settings.PUBLIC_URL = live_server.url
    desks = []

    def of(holder) -> Desk:
        token = builders.token(house.cast, holder).text.reveal().decode()
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
        desk = Desk(tmp_path, env | {"KEYVAULT_URL": live_server.url, "KEYVAULT_TOKEN": token})
        desks.append(desk)
        return desk

    yield of
    for desk in desks:
        desk.close()


@pytest.fixture
def readers(house) -> list[Key]:
    builders.agent(house.cast)
    return [house.pull(name=name) for name in (HERE, THERE)]


@pytest.fixture
def desk(house, desk_of, readers) -> Desk:
    return desk_of(house.cast.alice)


def approve(house) -> None:
    for row in Request.objects.filter(state="pending"):
        house.say(house.cast.bob, row)
    house.work()


def events() -> int:
    return Event.objects.exclude(event__startswith="token.").count()
