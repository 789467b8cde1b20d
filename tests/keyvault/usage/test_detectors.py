"""What goes beyond a declaration, as properties over any use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyvault.usage import detectors
from keyvault.usage.detectors import Declared, Use, deviations, is_allowed

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
AGENTS = [UUID(int=number) for number in range(1, 5)]
HOSTS = ["", "db.example.com", "db.example.com:5432", "a.example.net", "example.net", "*evil"]

uses = st.builds(
    Use,
    agent_id=st.sampled_from([*AGENTS, None]),
    who=st.sampled_from(["refund-bot", "Alice"]),
    host=st.sampled_from(HOSTS),
    is_reported=st.booleans(),
    count=st.integers(1, 10_000),
    last_at=st.integers(0, 86_399).map(lambda s: NOW - timedelta(seconds=s)),
)
declarations = st.builds(
    Declared,
    name=st.just("ledger-reader"),
    hosts=st.frozensets(
        st.sampled_from(["db.example.com", "db.example.com:5432", "*.example.net"])
    ),
    volume_per_day=st.integers(0, 50_000),
    is_by_hand=st.booleans(),
)
moments = st.integers(-86_400, 86_400).map(lambda s: NOW + timedelta(seconds=s))
rights = st.dictionaries(st.sampled_from(AGENTS), st.none() | moments)
OPEN = dict.fromkeys(AGENTS)


def _kinds(found):
    return {one.kind for one in found}


@given(declarations, st.lists(uses, max_size=12), rights)
def test_each_deviation_is_told_apart_and_the_order_of_use_changes_nothing(declared, found, held):
    there = deviations(declared, found, held)

    places = [(one.kind, one.detail) for one in there]
    assert len(set(places)) == len(places)
    assert set(places) == {
        (one.kind, one.detail) for one in deviations(declared, found[::-1], held)
    }
    assert _kinds(there) <= set(detectors.KINDS)


@given(st.lists(uses, max_size=12))
def test_use_within_what_was_declared_and_granted_is_never_a_deviation(found):
    total = sum(use.count for use in found)
    declared = Declared("ledger-reader", frozenset(), total, is_by_hand=False)

    assert deviations(declared, found, OPEN) == ()


@given(declarations, st.lists(uses, max_size=12), rights)
def test_no_use_is_no_deviation_and_more_use_never_takes_one_away(declared, found, held):
    assert deviations(declared, [], held) == ()
    for cut in range(len(found)):
        some = {(one.kind, one.detail) for one in deviations(declared, found[:cut], held)}
        more = {(one.kind, one.detail) for one in deviations(declared, found, held)}
        assert some <= more


@given(declarations, st.lists(uses, min_size=1, max_size=12))
def test_a_host_is_a_deviation_exactly_when_it_was_called_and_not_allowed(declared, found):
    there = [one for one in deviations(declared, found, OPEN) if one.kind == detectors.HOST]

    strange = {
        (use.agent_id, use.host)
        for use in found
        if use.is_reported and use.host and not is_allowed(use.host, declared.hosts)
    }
    assert {one.evidence["host"] for one in there} == {host for _, host in strange}


@given(declarations, uses, moments)
def test_a_right_that_ended_matters_from_five_minutes_on(declared, use, end):
    held = dict.fromkeys(AGENTS, end)

    kinds = _kinds(deviations(declared, [use], held))

    is_late = use.agent_id is not None and use.last_at > end + detectors.LEEWAY
    assert (detectors.ENDED in kinds) == is_late


@given(declarations, st.lists(uses, min_size=1, max_size=12))
def test_an_agent_that_never_had_a_right_is_noticed_and_a_person_is_not(declared, found):
    there = [one for one in deviations(declared, found, {}) if one.kind == detectors.ENDED]

    assert {one.evidence["agent"] for one in there} == {
        str(use.agent_id) for use in found if use.agent_id
    }
    assert all("never granted" in one.sentence for one in there)


@given(declarations, st.lists(uses, min_size=1, max_size=12))
def test_volume_is_a_deviation_exactly_above_what_was_declared(declared, found):
    there = [one for one in deviations(declared, found, OPEN) if one.kind == detectors.VOLUME]

    reported = sum(use.count for use in found if use.is_reported)
    read = sum(use.count for use in found if not use.is_reported)
    assert bool(there) == (max(reported, read) > declared.volume_per_day)


@given(declarations, st.lists(uses, max_size=12))
def test_a_key_read_by_hand_is_noticed_when_a_program_reports_its_use(declared, found):
    kinds = _kinds(deviations(declared, found, OPEN))

    by_program = any(use.is_reported and use.agent_id for use in found)
    assert (detectors.BY_HAND in kinds) == (declared.is_by_hand and by_program)


def test_a_flood_of_hosts_is_twenty_lines_and_always_the_same_twenty():
    found = [
        Use(AGENTS[0], "refund-bot", f"h{number:03}.example.org", True, 1, NOW)
        for number in range(100)
    ]
    declared = Declared("ledger-reader", {"db.example.com"}, 1000, is_by_hand=False)

    there = deviations(declared, found, OPEN)

    assert len(there) == detectors.MOST
    assert {one.detail for one in there} == {
        one.detail for one in deviations(declared, found[::-1], OPEN)
    }


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("db.example.com", ["db.example.com"], True),
        ("db.example.com:5432", ["db.example.com"], True),
        ("db.example.com", ["db.example.com:5432"], False),
        ("db.example.com:5433", ["db.example.com:5432"], False),
        ("db.example.com:5432", ["db.example.com:5432"], True),
        ("a.b.example.com", ["*.example.com"], True),
        ("example.com", ["*.example.com"], False),
        ("evilexample.com", ["*.example.com"], False),
        ("a.example.com:8443", ["*.example.com:8443"], True),
        ("anything.at.all", [], True),
    ],
)
def test_allowed_hosts_mean_what_they_say(host, allowed, expected):
    assert is_allowed(host, allowed) is expected
