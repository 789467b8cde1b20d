"""What a GitHub Actions secret in particular must and must not do, before a fake of GitHub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from keyvault.crypto.secret import Secret
from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    State,
    Transient,
    Version,
)
from keyvault.destinations.github_actions import GitHubActions
from keyvault.destinations.testing import DestinationConformance, make_version, put_live
from keyvault.plugins.faults import FaultProxy
from tests.contracts.vendors.github_secrets_server import ENVIRONMENT, REPOSITORY, GitHubServer
from tests.contracts.vendors.place_bench import PlaceBench
from tests.contracts.vendors.server import Answer, serving

TARGET = {"repository": REPOSITORY, "entries": "value=API_KEY"}
BOTH = {**TARGET, "entries": "value=API_KEY username=DB_USER"}


@contextmanager
def github(**target: str) -> Iterator[PlaceBench]:
    server = GitHubServer()
    with serving(server), FaultProxy("127.0.0.1", server.port) as proxy:
        yield PlaceBench(
            GitHubActions(),
            proxy,
            server,
            lambda url: {"url": url},
            {**TARGET, **target},
            {"token": Secret.of(server.token)},
            change=rb'"encrypted_value"',
        )


class TestGitHubActions(DestinationConformance):
    """What is None here asks for what GitHub does not have."""

    test_of_two_promotions_at_once_one_wins = None
    test_a_stage_that_lost_its_answer_can_be_repeated = None
    # By the times of secrets these hold all the same; the suite skips them without `readback`.
    test_a_foreign_value_is_a_conflict_and_stays = None
    test_a_foreign_value_that_was_there_before_us_stays = None
    test_a_wrong_expectation_is_a_conflict = None
    test_remove_leaves_what_is_not_the_version_it_names = None

    @pytest.fixture
    def bench(self) -> Iterator[PlaceBench]:
        with github() as bench:
            yield bench


@pytest.fixture
def bench() -> Iterator[PlaceBench]:
    with github() as bench:
        yield bench


def observe(bench):
    return bench.destination.observe(bench.call())


def promote(bench, version, expect):
    return bench.destination.promote(bench.call(), version, expect)


def verify(bench, version) -> State:
    return bench.destination.verify(bench.call(), version).state


def test_it_says_what_it_cannot_do(bench):
    able = bench.destination.capabilities(bench.call())
    assert (able.stages, able.cas, able.readback) == (False, False, False)
    assert able.consumer_lag_s == 21_600
    hurried = replace(bench, options={**TARGET, "longest_job_s": "900"})
    assert hurried.destination.capabilities(hurried.call()).consumer_lag_s == 900


def test_the_value_goes_sealed_and_github_opens_it(bench):
    value = 'snow ☃ "quoted"\nsecond line'
    version = Version("v-1", 1, {}, {"value": Secret.of(value)})
    put_live(bench, version)
    assert bench.consumed() == value.encode()


def test_an_environment_has_its_own_secrets(bench):
    other = replace(bench, options={**TARGET, "environment": ENVIRONMENT})
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    put_live(other, second)
    assert observe(other).live == second.id
    assert bench.consumed() == first.fields["value"].reveal()
    held = bench.server.place(f"environments/{ENVIRONMENT}").secrets["API_KEY"][0]
    assert held == second.fields["value"].reveal()


def test_a_secret_that_somebody_wrote_since_is_foreign_and_stays(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    bench.overwrite()
    before = bench.state()
    assert (observe(bench).live, observe(bench).is_foreign) == (None, True)
    assert verify(bench, first) is State.BAD
    for version, expect in ((second, first.id), (first, None), (first, first.id)):
        with pytest.raises(Conflict):
            promote(bench, version, expect)
    with pytest.raises(Conflict):
        bench.destination.remove(bench.call(), first.id)
    assert bench.state() == before


def test_a_secret_that_was_there_before_us_stays(bench):
    bench.overwrite()
    before, version = bench.state(), make_version()
    with pytest.raises(Conflict):
        promote(bench, version, None)
    with pytest.raises(Conflict):
        bench.destination.remove(bench.call(), version.id)
    assert bench.state() == before


def test_a_wrong_expectation_is_a_conflict(bench):
    first, second, third = make_version(1), make_version(2), make_version(3)
    with pytest.raises(Conflict):
        promote(bench, second, first.id)
    put_live(bench, first)
    put_live(bench, second, first)
    before = bench.state()
    for expect in (first.id, None):
        with pytest.raises(Conflict):
            promote(bench, third, expect)
        with pytest.raises(Conflict):
            bench.destination.remove(bench.call(), first.id)
    assert bench.state() == before


@pytest.mark.parametrize("lost", [rb'"value": "[^"]* > ', rb'"encrypted_value"', rb"@20"])
def test_whatever_step_lost_its_answer_repeating_and_going_back_both_mend(bench, lost):
    """The mark before, the secret itself, the mark after."""
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    faulty = replace(bench, change=lost)
    with faulty.lose_answer(), pytest.raises(Ambiguous):
        promote(bench, second, first.id)
    assert faulty.struck()
    assert not observe(bench).is_foreign
    assert promote(bench, second, first.id).live == second.id
    assert verify(bench, second) is State.OK
    third = make_version(3)
    with faulty.lose_answer(), pytest.raises(Ambiguous):
        promote(bench, third, second.id)
    assert promote(bench, second, third.id).live == second.id
    assert observe(bench).live == second.id
    assert bench.consumed() == second.fields["value"].reveal()


def test_a_first_promotion_that_lost_its_answer_is_not_taken_for_somebody_elses(bench):
    version = make_version()
    with bench.lose_answer(), pytest.raises(Ambiguous):
        promote(bench, version, None)
    assert bench.consumed() == version.fields["value"].reveal()
    assert not observe(bench).is_foreign
    assert promote(bench, version, None).live == version.id
    assert verify(bench, version) is State.OK


def test_a_first_promotion_that_was_given_up_can_be_removed(bench):
    version = make_version()
    with bench.lose_answer(), pytest.raises(Ambiguous):
        promote(bench, version, None)
    bench.destination.remove(bench.call(), version.id)
    assert bench.server.place().secrets == bench.server.place().variables == {}


def test_several_secrets_are_ambiguous_once_one_is_written(bench):
    several = replace(bench, options=BOTH, change=rb'"encrypted_value"')
    first, second = make_version(1), make_version(2)
    put_live(several, first)
    bench.server.writes_left = 1
    with pytest.raises(Ambiguous):
        promote(several, second, first.id)
    assert bench.server.place().secrets["DB_USER"][0] == b"orders_1"
    bench.server.writes_left = 2
    assert promote(several, second, first.id).live == second.id
    assert bench.server.place().secrets["DB_USER"][0] == b"orders_2"


def test_a_missing_right_changes_no_secret(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    for what in ("secrets", "variables"):
        bench.server.denied = {what}
        with pytest.raises(Denied):
            promote(bench, second, first.id)
        assert bench.consumed() == first.fields["value"].reveal()
    bench.server.denied = set()
    assert promote(bench, second, first.id).live == second.id


def test_a_403_that_speaks_of_a_rate_is_no_missing_right(bench):
    body = {"message": "API rate limit exceeded"}
    bench.server.faults.append(Answer(403, body, {"x-ratelimit-remaining": "0"}))
    with pytest.raises(Transient):
        observe(bench)
    bench.server.faults.append(Answer(403, body, {"retry-after": "60"}))
    with pytest.raises(Transient) as failure:
        observe(bench)
    assert failure.value.retry_after_s == 60


def test_a_public_key_that_is_none_is_transient(bench):
    for key in ("c2hvcnQ=", "not base64", 7, None):
        bench.server.faults.append(Answer(200, {"key_id": "1", "key": key}))
        with pytest.raises(Transient):
            bench.destination.stage(bench.call(), make_version())
    assert bench.consumed() is None


def test_a_repository_that_the_token_does_not_see_is_named(bench):
    wrong = replace(bench, options={**TARGET, "repository": "octo-org/other"})
    (problem,) = wrong.destination.check(wrong.call())
    assert "No such repository" in problem.sentence
    with pytest.raises(NotFound):
        promote(wrong, make_version(), None)
    unknown = replace(bench, admin={"token": Secret.of("ghp_unknown")})
    assert "401" in unknown.destination.check(unknown.call())[0].sentence


def test_a_value_that_github_does_not_take_is_refused_when_staged(bench):
    large = Version("v-1", 1, {}, {"value": Secret.of("x" * 48_001)})
    with pytest.raises(Misconfigured):
        bench.destination.stage(bench.call(), large)
    with pytest.raises(Misconfigured):
        promote(bench, large, None)
    assert bench.server.place().variables == {}


@pytest.mark.parametrize(
    "target",
    [
        {"repository": "octo-org"},
        {"repository": "octo-org/.."},
        {"repository": "octo-org/shop/extra"},
        {"environment": ".."},
        {"entries": ""},
        {"entries": "value=1KEY"},
        {"entries": "value=GITHUB_TOKEN"},
        {"entries": "value=API_KEY username=api_key"},
    ],
)
def test_names_that_github_does_not_take_are_refused(bench, target):
    wrong = replace(bench, options={**TARGET, **target})
    with pytest.raises(Misconfigured):
        observe(wrong)
    assert bench.server.asked == []
