"""Leases by API as they commit: a provider that hangs, and what an Idempotency-Key is kept for."""

from __future__ import annotations

import threading

import pytest

from keyvault.api.models import ApiReplay
from keyvault.connections import minting
from keyvault.leases import services
from keyvault.leases.models import Lease
from keyvault.rooms import Room
from tests import races
from tests.keyvault.api.test_leases import KEYED, body, caller, lending, proxy, server, shop
from tests.keyvault.api.test_requests import kind_of

__all__ = ["caller", "lending", "proxy", "server", "shop"]
pytestmark = pytest.mark.django_db(transaction=True)


def test_while_a_provider_hangs_others_are_refused_at_once_and_the_console_answers(
    shop, caller, monkeypatch
):
    hangs, goes_on, mint = threading.Event(), threading.Event(), minting.mint

    def slow(**asked):
        hangs.set()
        assert goes_on.wait(races.PATIENCE_S)
        return mint(**asked)

    monkeypatch.setattr(services, "room", Room(1))
    monkeypatch.setattr(minting, "mint", slow)
    first = races.Racer(shop.take)
    assert hangs.wait(races.PATIENCE_S)

    refused = caller.post("/leases", body(shop), **KEYED)
    listed = caller.get("/leases")
    goes_on.set()
    first.finish()

    assert (refused.status_code, kind_of(refused)) == (503, "unavailable")
    assert refused["Retry-After"] == "5"
    assert "Nothing was begun" in refused.json()["detail"]
    assert [row["state"] for row in listed.json()["items"]] == ["minting"]
    assert not ApiReplay.objects.exists(), "the key is free"
    assert Lease.objects.get().state == "open"
    assert caller.post("/leases", body(shop), **KEYED).status_code == 201
