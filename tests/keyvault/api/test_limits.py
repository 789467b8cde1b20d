"""Buckets: they allow a burst, then a rate, say how long to wait, and stay small."""

from __future__ import annotations

import pytest

from keyvault.api import limits
from keyvault.api.limits import Buckets, Rate

RATE = Rate(per_s=2, burst=3)


def test_a_burst_passes_and_then_one_call_each_half_second():
    buckets = Buckets()

    assert [buckets.take("p", "a", RATE, at=0.0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert buckets.take("p", "a", RATE, at=0.5) == 0
    assert buckets.take("p", "a", RATE, at=0.5) == 0.5
    assert buckets.take("p", "b", RATE, at=0.5) == 0


def test_a_refused_call_costs_nothing_and_a_look_neither():
    buckets = Buckets()
    for _ in range(3):
        buckets.take("p", "a", RATE, at=0.0)

    for _ in range(100):
        assert buckets.take("p", "a", RATE, at=0.25) > 0
    assert buckets.take("p", "a", RATE, at=0.5, cost=0) == 0
    assert buckets.take("p", "a", RATE, at=0.5) == 0


def test_a_flood_of_callers_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("keyvault.buckets.KEPT", 50)
    buckets = Buckets()

    for number in range(500):
        buckets.take("p", str(number), RATE, at=float(number))

    assert len(buckets._levels) == 50


@pytest.mark.django_db
def test_a_caller_who_asks_too_much_is_told_when_to_come_again(cast, as_, monkeypatch):
    monkeypatch.setattr(limits, "PRINCIPAL", Rate(per_s=0.1, burst=2))
    alice, bob = as_(cast.alice), as_(cast.bob)

    assert [alice.get("/keys").status_code for _ in range(3)] == [200, 200, 429]
    refused = alice.get("/keys")
    assert 1 <= int(refused["Retry-After"]) <= 10
    assert refused.json()["type"] == "urn:keyvault:problem:too-many-requests"
    assert bob.get("/keys").status_code == 200
    assert as_(cast.alice).get("/keys").status_code == 429, "another token is the same caller"


@pytest.mark.django_db
def test_one_source_may_fail_only_so_often(cast, as_, monkeypatch):
    monkeypatch.setattr(limits, "FAILURES", Rate(per_s=0.1, burst=3))
    nobody = as_(cast.alice)
    good, nobody.text = nobody.text, "kvt_wrong"

    assert [nobody.get("/keys").status_code for _ in range(4)] == [401, 401, 401, 429]
    nobody.text = good
    assert nobody.get("/keys").status_code == 429, "guessing stops before anything is looked up"
