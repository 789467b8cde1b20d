from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from keyvault.inventory import limits, risk

MILD = risk.Exposure(
    environment="dev",
    protected=False,
    lifetime_days=7,
    cadence_days=7,
    has_backup=True,
    allowed_hosts=("db.example.com",),
    volume_per_day=100,
    external_input=False,
    read_by_person=False,
    known_days=400,
)
WORST = risk.Exposure(
    environment="prod",
    protected=True,
    lifetime_days=900,
    cadence_days=900,
    has_backup=False,
    allowed_hosts=(),
    volume_per_day=10**9,
    external_input=True,
    read_by_person=True,
    known_days=0,
)
EXPOSURES = st.builds(
    risk.Exposure,
    environment=st.just("x"),
    protected=st.booleans(),
    lifetime_days=st.integers(1, 2000),
    cadence_days=st.integers(1, 2000),
    has_backup=st.booleans(),
    allowed_hosts=st.sampled_from([(), ("a.com",), ("*.a.com", "b.com")]),
    volume_per_day=st.integers(0, 10**9),
    external_input=st.booleans(),
    read_by_person=st.booleans(),
    known_days=st.integers(0, 4000),
)


def test_the_mildest_key_scores_nothing_and_the_worst_fills_the_scale():
    assert risk.score(MILD) == 0
    assert risk.score(WORST) == 100


@given(EXPOSURES)
def test_points_add_up_to_a_score_within_0_and_100(exposure):
    assert 0 <= risk.score(exposure) <= 100
    assert risk.score(exposure) == sum(point.points for point in risk.points(exposure))


@given(EXPOSURES)
def test_every_relief_lowers_the_score_by_what_it_says(exposure):
    for relief in risk.reliefs(exposure):
        milder = replace(exposure, **{relief.field: int(relief.value)})
        assert risk.score(milder) == relief.score == risk.score(exposure) + relief.points
        assert relief.points < 0


def test_each_point_has_its_evidence():
    assert all(point.evidence and point.title for point in risk.points(WORST))


def test_a_span_beyond_the_limit_names_the_nearest_allowed_one():
    excess = limits.excesses(environment="prod", protected=True, lifetime_days=400, cadence_days=30)

    assert [(found.field, found.nearest) for found in excess] == [("lifetime_days", 180)]
    assert excess[0].sentence == "A key in prod lives at most 180 days."


def test_a_protected_sandbox_is_not_treated_as_a_sandbox():
    assert limits.limits(environment="sandbox", protected=True).lifetime_days == 180
