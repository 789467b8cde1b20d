"""Rotations under load: not one request of a consumer meets a dead credential.

A whole demo: a role of a real PostgreSQL and a user of a real Valkey, consumers
that fetch by API, and consumers that read where keyvault lays the value: two env
files, the first of them a canary, and a real OpenBao.
"""

from __future__ import annotations

import pytest

from tests.load import bench_rotation

RATE = 20  # requests a second of each consumer


@pytest.mark.slow
def test_few_consumers_through_two_rotations_with_a_killed_worker_in_each() -> None:
    rotate(rotations=2, consumers=4, with_kills=True)


@pytest.mark.campaign
@pytest.mark.parametrize("with_kills", [False, True], ids=["undisturbed", "worker killed"])
def test_fifty_consumers_of_each_key_through_a_hundred_rotations(with_kills: bool) -> None:
    rotate(rotations=100, consumers=50, with_kills=with_kills)


def rotate(*, rotations: int, consumers: int, with_kills: bool) -> None:
    """Rotate both keys, and look that each rotation was completed and each request served."""
    ends, counts = bench_rotation.under_load(rotations, consumers, RATE, with_kills=with_kills)
    for key in bench_rotation.KEYS:
        assert [end["state"] for end in ends[key]] == ["completed"] * rotations
        assert counts[key]["failed"] == 0
        # Both kinds of consumers were there all the time, and each used what they had read.
        assert counts[key]["served from a place"] > 0
        assert counts[key]["served"] - counts[key]["served from a place"] > rotations * consumers
