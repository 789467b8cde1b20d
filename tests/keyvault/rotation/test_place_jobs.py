"""The job that writes to a place apart from any rotation, where its destination has much to do."""

# ruff: noqa: F811 - pytest takes fixtures by their names.

from __future__ import annotations

import threading

import pytest

from keyvault.connections import turns
from keyvault.dependents.models import Push
from tests.keyvault.rotation.test_places import (  # noqa: F401 - fixtures.
    _watched,
    account,
    live,
    places,
    push,
    run_job,
)

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_place_whose_destination_is_busy_waits_its_turn_and_fails_nothing(
    push, places, run_job, monkeypatch, account
):
    row = push("orders", write=False)
    full = threading.BoundedSemaphore(1)
    full.acquire()
    monkeypatch.setattr(turns, "_WAIT_S", 0.01)
    monkeypatch.setitem(turns._gates, account.pk, full)

    for _ in range(7):
        job = run_job(row)

    row.refresh_from_db()
    assert (job.state, row.push) == ("ready", Push.WRITING)
    full.release()
    assert run_job(row).state == "done"
    assert live(places, "orders") is not None
