"""Refusals are counted, bounded, and end in the ledger with their number."""

from __future__ import annotations

import psycopg
import pytest
from django.utils import timezone

from keyvault.audit import denials
from keyvault.audit.models import Denial, Event
from keyvault.gateway import refusals
from keyvault.gateway.refusals import Refusals
from tests.keyvault.agents import builders
from tests.keyvault.gateway.reading import database_url


def _kinds(counted: Refusals) -> dict[tuple[str, str, str], int]:
    return {(w.source, w.principal, w.reason): c.count for w, c in counted.take()}


def test_refusals_of_one_kind_are_one_count():
    counted = Refusals()
    for _ in range(1000):
        counted.count("192.0.2.7", "a", "not granted")
    counted.count("192.0.2.8", "a", "not granted")

    assert _kinds(counted) == {
        ("192.0.2.7", "a", "not granted"): 1000,
        ("192.0.2.8", "a", "not granted"): 1,
    }
    assert counted.take() == []


def test_one_source_cannot_fill_the_memory():
    counted = Refusals()
    for number in range(10_000):
        counted.count("192.0.2.7", f"guess {number}", "unknown token")
    kinds = _kinds(counted)

    assert len(kinds) == refusals.MOST_OF_SOURCE + 1
    assert sum(kinds.values()) == 10_000
    assert kinds["192.0.2.7", "several", "several"] == 10_000 - refusals.MOST_OF_SOURCE


def test_many_sources_cannot_fill_the_memory():
    counted = Refusals()
    for number in range(5_000):
        counted.count(f"2001:db8::{number:x}", "", "unknown token")
    kinds = _kinds(counted)

    assert len(kinds) == refusals.MOST_SOURCES + 1
    assert sum(kinds.values()) == 5_000


@pytest.mark.django_db(transaction=True)
def test_counts_reach_the_ledger_with_the_name_of_the_agent(cast):
    agent, counted = builders.agent(cast), Refusals()
    with psycopg.connect(database_url(), autocommit=True) as link:
        for _ in range(2):
            for _ in range(5):
                counted.count("192.0.2.7", str(agent.id), "not granted")
                counted.count("192.0.2.7", "", "unknown token")
            refusals.flush(link, counted)

    denials.flush(timezone.now(), is_forced=True)

    events = {e.fields["gate"]: e for e in Event.objects.filter(event="access.refused")}
    assert set(events) == {"gateway: not granted", "gateway: unknown token"}
    named = events["gateway: not granted"]
    assert (named.actor_kind, named.actor_id, named.actor_label) == (
        "agent",
        str(agent.id),
        agent.name,
    )
    assert [e.fields["count"] for e in events.values()] == [10, 10]
    assert {e.ip for e in events.values()} == {"192.0.2.7"}
    assert named.fields["first_at"] < named.fields["last_at"]


@pytest.mark.django_db(transaction=True)
def test_counts_that_could_not_be_written_are_kept(cast):
    counted = Refusals()
    counted.count("192.0.2.7", "", "unknown token")
    link = psycopg.connect(database_url(), autocommit=True)
    link.close()

    with pytest.raises(psycopg.Error):
        refusals.flush(link, counted)
    counted.count("192.0.2.7", "", "unknown token")
    with psycopg.connect(database_url(), autocommit=True) as whole:
        refusals.flush(whole, counted)

    assert Denial.objects.get().count == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("hostile", ["\x00", "\ud800", "x" * 10_000, "'; DROP TABLE x; --", "\n"])
def test_hostile_texts_are_counted_all_the_same(hostile):
    counted = Refusals()
    counted.count(hostile, hostile, hostile)
    with psycopg.connect(database_url(), autocommit=True) as link:
        refusals.flush(link, counted)

    assert Denial.objects.get().count == 1
