"""Two at once: the limit, a return and the sweep, a renewal and the kill switch."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection, transaction

from keyvault.agents.models import Agent
from keyvault.audit.models import Event
from keyvault.leases import selectors, services, sweep
from keyvault.leases.models import Lease
from keyvault.rooms import Room
from tests import races

pytestmark = pytest.mark.django_db(transaction=True)
RACERS = 8


def at_once(*deeds) -> Counter[str]:
    """Do things in threads that begin together; count what came of them."""
    barrier, came = threading.Barrier(len(deeds)), []

    def run(deed):
        barrier.wait()
        try:
            came.append(str(deed()))
        except Exception as error:  # noqa: BLE001 - what it was is compared.
            came.append(type(error).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(came)


def test_of_eight_that_take_at_once_five_are_lent(shop, monkeypatch):
    monkeypatch.setattr(services, "room", Room(RACERS, each=RACERS))
    came = at_once(*[lambda: shop.take().lease.state] * RACERS)

    assert came == {"open": 5, "TooManyHeld": 3}
    assert shop.living() == 5
    assert Event.objects.filter(event="lease.taken").count() == 5


def test_a_return_and_the_sweep_end_a_lease_once(shop):
    lease = shop.take(ttl_s=60).lease
    over = lease.expires_at

    at_once(
        lambda: shop.give_back(lease, after_s=60).state,
        lambda: sweep.run(over),
        lambda: shop.give_back(lease, after_s=60).state,
    )
    shop.work(after_s=60)

    assert shop.living() == 0
    [ending] = Event.objects.filter(event="lease.ending")
    ended = Event.objects.filter(event__in=["lease.returned", "lease.expired"])
    assert [row.event for row in ended] == [f"lease.{ending.fields['aim']}"]
    assert shop.state(lease) == ending.fields["aim"]


def test_a_renewal_that_waits_for_the_kill_switch_finds_it_done(shop):
    lease = shop.take().lease
    Agent.objects.update(state="suspended")

    with transaction.atomic():
        selectors.lock(lease.pk)
        waiting = races.Racer(
            lambda: services.renew(token=shop.token, lease_id=lease.pk, now=shop.now)
        )
        races.await_somebody_waiting()
        row = Lease.objects.get(pk=lease.pk)
        row.state, row.aim = "ending", "withdrawn"
        row.save()

    with pytest.raises(services.NotOpen):
        waiting.finish()


def test_a_renewal_keeps_the_sweep_from_ending_what_was_just_over(shop):
    lease = shop.take(ttl_s=60).lease
    at = lease.expires_at - timedelta(seconds=1)

    with transaction.atomic():
        row = selectors.lock(lease.pk)
        clock = races.Racer(lambda: sweep.run(lease.expires_at))
        races.await_somebody_waiting()
        row.expires_at = at + timedelta(minutes=5)
        row.save()
    clock.finish()

    assert shop.state(lease) == "open"
