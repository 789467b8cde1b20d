"""What each call does when the place fails, hangs or lies. Part of the conformance suite."""

from __future__ import annotations

import traceback

import pytest

from keyvault.destinations.base import Ambiguous, ProviderError, State, Transient
from keyvault.destinations.testing.bench import Bench, make_version, put_live, secret_of
from keyvault.destinations.testing.calls import (
    DEADLINE_S,
    able,
    hurried,
    in_time,
    observe,
    promote,
    secrets_of,
    traces_of,
    verify,
)


class Failures:
    """The promises that hold while something fails."""

    def test_a_lost_request_changes_nothing(self, bench: Bench) -> None:
        """It may be called ambiguous; consumers have the old value, and a repeat goes on."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        with bench.lose_request(), pytest.raises((Transient, Ambiguous)):
            promote(bench, second, first)
        assert bench.struck()
        assert bench.consumed() == secret_of(first)
        assert promote(bench, second, first).live == second.id
        assert bench.consumed() == secret_of(second)

    def test_a_lost_answer_is_ambiguous_and_a_repeat_mends(self, bench: Bench) -> None:
        """The place has changed and nobody heard; repeating finds it done."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        bench.destination.stage(bench.call(), second)
        with bench.lose_answer(), pytest.raises(Ambiguous):
            promote(bench, second, first)
        assert bench.struck()
        assert promote(bench, second, first).live == second.id
        bench.settle()
        assert verify(bench, second) is State.OK
        assert bench.consumed() == secret_of(second)

    def test_a_stage_that_lost_its_answer_can_be_repeated(self, bench: Bench) -> None:
        """The first may have worked; the second makes sure."""
        if not able(bench).stages:
            pytest.skip("nothing lies beside the live version here")
        version = make_version()
        with bench.lose_answer(), pytest.raises((Transient, Ambiguous)):
            bench.destination.stage(bench.call(), version)
        assert bench.struck()
        bench.destination.stage(bench.call(), version)
        assert observe(bench).staged == (version.id,)
        assert bench.consumed() is None

    def test_an_outage_is_no_verdict(self, bench: Bench) -> None:
        """Observe is Transient, verify PENDING, and no change claims to have happened."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        with bench.down():
            with pytest.raises(Transient):
                observe(bench)
            assert verify(bench, first) is State.PENDING
            for attempted in (
                lambda: promote(bench, second, first),
                lambda: bench.destination.remove(bench.call(), first.id),
            ):
                with pytest.raises((Transient, Ambiguous)):
                    attempted()
            assert bench.destination.check(bench.call())
        assert verify(bench, first) is State.OK
        assert bench.consumed() == secret_of(first)
        assert bench.destination.check(bench.call()) == []

    def test_a_hanging_place_is_left_by_the_deadline(self, bench: Bench) -> None:
        """Each call ends in time, and waiting is never taken for a verdict."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        with bench.hang():
            assert in_time(lambda: hurried(bench, first)) is not State.BAD
            with pytest.raises((Transient, Ambiguous)):
                in_time(
                    lambda: bench.destination.promote(
                        bench.call(timeout_s=DEADLINE_S), second, first.id
                    )
                )
        assert promote(bench, second, first).live == second.id

    def test_a_call_without_time_left_sends_nothing(self, bench: Bench) -> None:
        """The deadline may pass while a call waits for its turn."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        before = bench.state()
        for attempted in (
            lambda: bench.destination.promote(bench.call(timeout_s=0), second, first.id),
            lambda: bench.destination.remove(bench.call(timeout_s=0), first.id),
        ):
            with pytest.raises(Transient):
                attempted()
        assert bench.state() == before

    def test_errors_repeat_nothing_of_what_the_place_says(self, bench: Bench) -> None:
        """A hostile or careless server sends our own secrets back."""
        first, second = make_version(1), make_version(2)
        put_live(bench, first)
        words = secrets_of(bench, first, second)
        with bench.hostile(words), pytest.raises(ProviderError) as failure:
            promote(bench, second, first)
        assert bench.struck()
        text = "".join(traceback.format_exception(failure.value)).encode()
        assert not [trace for trace in traces_of(bench, first, second) if trace in text]
