"""Leases by API as they commit: a provider that hangs, and what an Idempotency-Key is kept for."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from keyvault.agents.models import AccessToken
from keyvault.api import replays
from keyvault.api.models import ApiReplay
from keyvault.connections import minting
from keyvault.inventory.models import Grant
from keyvault.leases import handover, services
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


@pytest.mark.parametrize(
    ("status", "answered", "left"),
    [(403, 409, "failed"), (429, 503, "failed"), (500, 503, "orphaned")],
)
def test_a_lease_that_was_not_minted_leaves_its_key_free(shop, caller, status, answered, left):
    shop.server.fail(status)
    refused = caller.post("/leases", body(shop), **KEYED)
    assert (refused.status_code, Lease.objects.get().state) == (answered, left)
    assert not ApiReplay.objects.exists()

    again = caller.post("/leases", body(shop), **KEYED)

    assert (again.status_code, again.json()["state"]) == (201, "open")
    assert "Idempotent-Replay" not in again


def test_a_right_that_went_while_the_provider_answered_leaves_the_key_free(
    shop, caller, monkeypatch
):
    mint = minting.mint

    def slow(**asked):
        minted = mint(**asked)
        Grant.objects.update(ended_at=shop.now)
        return minted

    with monkeypatch.context() as patched:
        patched.setattr(minting, "mint", slow)
        assert caller.post("/leases", body(shop), **KEYED).status_code == 404
    assert not ApiReplay.objects.exists()
    Grant.objects.update(ended_at=None)

    assert caller.post("/leases", body(shop), **KEYED).status_code == 201


def test_a_token_that_ended_while_the_provider_answered_leaves_the_key_to_the_next_one(
    shop, caller, as_, monkeypatch
):
    mint = minting.mint

    def slow(**asked):
        minted = mint(**asked)
        AccessToken.objects.update(ended_at=shop.now, ended_cause="The login ended.")
        return minted

    with monkeypatch.context() as patched:
        patched.setattr(minting, "mint", slow)
        refused = caller.post("/leases", body(shop), **KEYED)
    assert (refused.status_code, kind_of(refused)) == (401, "invalid-token")

    again = as_(shop.agent).post("/leases", body(shop), **KEYED)

    assert (again.status_code, again.json()["state"]) == (201, "open")


def test_a_call_that_broke_keeps_its_key_and_leads_to_the_list_of_leases(shop, caller, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(handover, "hand_over", lambda *_, **__: 1 / 0)
        assert caller.post("/leases", body(shop), **KEYED).status_code == 500
    ApiReplay.objects.update(created_at=shop.now - replays.PROMPT - timedelta(seconds=1))

    again = caller.post("/leases", body(shop), **KEYED)

    assert (again.status_code, kind_of(again)) == (409, "in-flight")
    assert "List your leases before you ask again" in again.json()["detail"]
    assert Lease.objects.get().state == "minting"
