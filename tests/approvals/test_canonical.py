"""Canonical JSON and digests: one value, one byte string."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approvals import canonical, digests

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_written_reads_back_and_writes_the_same(value):
    written = canonical.dumps(value)
    assert json.loads(written) == value
    assert canonical.dumps(json.loads(written)) == written


@given(st.dictionaries(texts, values, max_size=5))
def test_the_order_of_members_never_matters(value):
    assert canonical.dumps(dict(reversed(value.items()))) == canonical.dumps(value)


@given(values, values)
def test_different_values_have_different_bytes(one, other):
    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        assert canonical.dumps(one) != canonical.dumps(other)


def test_text_is_not_normalised():
    assert canonical.dumps("\u00e9") != canonical.dumps("e\u0301")


def _deep(levels):
    value = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [1.0, float("nan"), b"x", {1: 2}, {"a": {1, 2}}, object(), "\ud800", _deep(100_000)]
)
def test_what_has_no_single_form_is_refused(value):
    with pytest.raises(canonical.NotCanonical):
        canonical.dumps(value)


def test_a_uuid_counts_as_its_text():
    number = UUID(int=7)
    assert digests.act_digest(kind="x", id=number) == digests.act_digest(kind="x", id=str(number))


def test_every_parameter_of_a_decision_changes_its_digest():
    base = {"request_id": UUID(int=1), "plan_digest": "a" * 64, "verdict": "approve"}
    others = [
        base | {"request_id": UUID(int=2)},
        base | {"plan_digest": "b" * 64},
        base | {"verdict": "reject"},
    ]
    assert len({digests.decide_digest(**act) for act in [base, *others]}) == 4
