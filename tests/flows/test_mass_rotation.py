"""Sixty keys of a real Valkey rotate as one batch, and the worker is killed in the middle.

`./kv bench rotation --mass 1000` does the same with a thousand.
"""

from __future__ import annotations

import pytest

from tests.load import bench_mass
from tests.load.bench_rotation import TERMS
from tests.servers import Stack, free_port

pytestmark = pytest.mark.slow
KEYS, PLACES = 60, 8


@pytest.fixture
def hasty_stack(tmp_path):
    """Return a demo whose old versions need be silent for a second only."""
    settings = TERMS | {"KEYVAULT_ROTATION_PER_CONNECTION": str(PLACES)}
    running = Stack(tmp_path / "data", tmp_path / "keys", free_port(), ("--demo",), settings)
    yield running.start()
    running.stop()


def test_all_keys_end_once_each_and_every_look_adds_up(hasty_stack):
    course = bench_mass.run(hasty_stack, KEYS, kill_at=0.25, hurry=True)

    assert course.kills == 1
    assert course.faults(KEYS) == []
    assert max(look["open"] for look in course.looks) <= PLACES
    assert any(0 < look["done"] < KEYS for look in course.looks), "it was looked at on the way"
