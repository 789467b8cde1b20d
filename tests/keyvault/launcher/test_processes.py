"""The command lines of keyvault's own processes."""

from __future__ import annotations

import pytest

from keyvault.environment import BadSetting
from keyvault.launcher import processes


def _workers() -> str:
    argv = processes.gateway({}, host="127.0.0.1", port=8001).argv
    return argv[argv.index("--workers") + 1]


def test_a_gateway_is_one_process_unless_more_are_asked_for(monkeypatch):
    monkeypatch.delenv("KEYVAULT_GATEWAY_PROCESSES", raising=False)
    assert _workers() == "1"

    monkeypatch.setenv("KEYVAULT_GATEWAY_PROCESSES", "3")
    assert _workers() == "3"


@pytest.mark.parametrize("word", ["0", "65", "two", ""])
def test_a_number_of_processes_that_makes_no_sense_is_refused(monkeypatch, word):
    monkeypatch.setenv("KEYVAULT_GATEWAY_PROCESSES", word)

    with pytest.raises(BadSetting, match="from 1 to 64"):
        _workers()
