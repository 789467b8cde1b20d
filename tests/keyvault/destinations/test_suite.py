"""The conformance suite finds what it is there to find: each broken promise fails its test."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest

from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Field,
    Health,
    Misconfigured,
    Problem,
    ProviderError,
    State,
    Transient,
)
from keyvault.destinations.testing import DestinationConformance
from tests.keyvault.destinations.memory import Memory, MemoryBench, value_of


class TestAnHonestDestination(DestinationConformance):
    @pytest.fixture
    def bench(self) -> MemoryBench:
        return MemoryBench()


class NeverCompares(Memory):
    def compare(self, found, version, expect):
        pass


class ReplacesForeign(Memory):
    def compare(self, found, version, expect):
        if not found.is_foreign:
            super().compare(found, version, expect)


class TrustsTheMark(Memory):
    def owner(self, live):
        return live[0] if live else None


class TakesWhatWasThere(Memory):
    """Takes a value without any mark for an empty place."""

    def compare(self, found, version, expect):
        if expect is not None or not found.is_foreign:
            super().compare(found, version, expect)


class WritesAgain(Memory):
    def promote(self, ctx, version, expect):
        found = super().promote(ctx, version, expect)
        self.place.writes += 1
        return found


class RefusesToRepeat(Memory):
    def compare(self, found, version, expect):
        if found.live != expect:
            raise Conflict("No.")
        super().compare(found, version, expect)


class StagesIntoLive(Memory):
    def stage(self, ctx, version):
        super().stage(ctx, version)
        self.place.live = (version.id, value_of(version), value_of(version))


class StagesNothing(Memory):
    def stage(self, ctx, _version):
        self.place.read(ctx)


class NeedsTheStage(Memory):
    def promote(self, ctx, version, expect):
        if version.id not in self.place.staged:
            raise Misconfigured("Stage it first.")
        return super().promote(ctx, version, expect)


class ComparesLate(Memory):
    """Looks, waits until its rival has looked too, and writes."""

    meeting = threading.Barrier(2)

    def promote(self, ctx, version, expect):
        self.compare(self.observe(ctx), version, expect)
        if version.number > 1:
            self.meeting.wait(5)
        self.write((version.id, value_of(version), value_of(version)))
        return self.observe(ctx)


class CallsALostAnswerHarmless(Memory):
    def promote(self, ctx, version, expect):
        try:
            return super().promote(ctx, version, expect)
        except Ambiguous:
            raise Transient("Nothing happened.") from None


class HidesALostRequest(Memory):
    def write(self, live):
        try:
            super().write(live)
        except Ambiguous:
            return


class JudgesAnOutage(Memory):
    def verify(self, ctx, version):
        try:
            self.observe(ctx)
        except Transient:
            return Health(State.BAD, "It does not answer.")
        return super().verify(ctx, version)


class SeesNothingInAnOutage(Memory):
    def observe(self, ctx):
        try:
            return super().observe(ctx)
        except Transient:
            return super().observe(replace_fault(self, ctx))


def replace_fault(destination, ctx):
    destination.place.fault = ""
    return ctx


class WaitsForEver(Memory):
    def promote(self, ctx, version, expect):
        if self.place.fault == "hang":
            time.sleep(5)
        return super().promote(ctx, version, expect)


class IgnoresTheDeadline(Memory):
    def remove(self, ctx, expect):
        super().remove(replace(ctx, deadline_at=ctx.deadline_at + 60), expect)


class RepeatsTheServersWords(Memory):
    def write(self, live):
        try:
            self.place.write(live)
        except OSError as error:
            raise Misconfigured(f"The place said: {error}") from None


class KeepsTheServersWordsAsACause(Memory):
    def write(self, live):
        try:
            self.place.write(live)
        except OSError as error:
            raise Misconfigured("The place refused.") from error


class ShowsTheValue(Memory):
    def observe(self, ctx):
        found = super().observe(ctx)
        return replace(found, etag=str(self.place.live[2]) if self.place.live else "")


class CleansUpEverything(Memory):
    def cleanup(self, ctx, _keep):
        super().cleanup(ctx, [])


class CleansUpNothing(Memory):
    def cleanup(self, ctx, keep):
        pass


class CleansUpTheLiveOne(Memory):
    def cleanup(self, ctx, keep):
        super().cleanup(ctx, keep)
        if not keep:
            self.place.live = None


class RemovesWhateverIsThere(Memory):
    def remove(self, ctx, _expect):
        self.place.read(ctx)
        self.write(None)


class RemovesOnceOnly(Memory):
    def remove(self, ctx, expect):
        if self.observe(ctx).live is None:
            raise Conflict("It is gone.")
        super().remove(ctx, expect)


class WritesWhenAsked(Memory):
    def verify(self, ctx, version):
        self.place.writes += 1
        return super().verify(ctx, version)


class AlwaysWell(Memory):
    def verify(self, _ctx, _version):
        return Health(State.OK)


class NeedsAPlaceToBeChecked(Memory):
    def check(self, ctx):
        return super().check(ctx) if ctx.options else [Problem("Where?", "Name a place.")]


class AsksForASecretInTheOpen(Memory):
    config_schema = (Field("token", "Token", kind="secret"),)


BROKEN = [
    (NeverCompares, "a_wrong_expectation_is_a_conflict"),
    (ReplacesForeign, "a_foreign_value_is_a_conflict_and_stays"),
    (TrustsTheMark, "a_foreign_value_is_a_conflict_and_stays"),
    (TakesWhatWasThere, "a_foreign_value_that_was_there_before_us_stays"),
    (WritesAgain, "promote_twice_is_one_change"),
    (RefusesToRepeat, "promote_twice_is_one_change"),
    (RefusesToRepeat, "a_lost_answer_is_ambiguous_and_a_repeat_mends"),
    (StagesIntoLive, "what_is_staged_is_not_live"),
    (StagesNothing, "what_is_staged_is_not_live"),
    (StagesNothing, "a_stage_that_lost_its_answer_can_be_repeated"),
    (NeedsTheStage, "a_version_need_not_be_staged_to_become_live"),
    (NeedsTheStage, "rolling_back_is_promoting_the_old_version"),
    (ComparesLate, "of_two_promotions_at_once_one_wins"),
    (CallsALostAnswerHarmless, "a_lost_answer_is_ambiguous_and_a_repeat_mends"),
    (HidesALostRequest, "a_lost_request_changes_nothing"),
    (JudgesAnOutage, "an_outage_is_no_verdict"),
    (SeesNothingInAnOutage, "an_outage_is_no_verdict"),
    (JudgesAnOutage, "a_hanging_place_is_left_by_the_deadline"),
    (WaitsForEver, "a_hanging_place_is_left_by_the_deadline"),
    (IgnoresTheDeadline, "a_call_without_time_left_sends_nothing"),
    (RepeatsTheServersWords, "errors_repeat_nothing_of_what_the_place_says"),
    (KeepsTheServersWordsAsACause, "errors_repeat_nothing_of_what_the_place_says"),
    (ShowsTheValue, "no_public_part_holds_a_secret"),
    (CleansUpEverything, "cleanup_keeps_what_it_is_told"),
    (CleansUpNothing, "cleanup_keeps_what_it_is_told"),
    (CleansUpTheLiveOne, "cleanup_keeps_what_it_is_told"),
    (RemovesWhateverIsThere, "remove_leaves_what_is_not_the_version_it_names"),
    (RemovesOnceOnly, "remove_takes_our_value_away_and_twice_is_fine"),
    (WritesWhenAsked, "reads_change_nothing"),
    (AlwaysWell, "a_version_goes_from_nothing_to_live"),
    (AlwaysWell, "the_next_version_takes_over"),
    (NeedsAPlaceToBeChecked, "a_check_without_a_place_is_about_the_account_alone"),
    (AsksForASecretInTheOpen, "its_forms_are_sound"),
]


@pytest.mark.parametrize(("kind", "promise"), BROKEN)
def test_a_broken_promise_is_found(kind, promise):
    promised = getattr(DestinationConformance(), f"test_{promise}")
    promised(MemoryBench())
    with pytest.raises((AssertionError, pytest.fail.Exception, ProviderError)):
        promised(MemoryBench(kind))


def test_every_promise_is_broken_by_somebody():
    promises = {name for name in dir(DestinationConformance) if name.startswith("test_")}
    assert promises == {f"test_{promise}" for _, promise in BROKEN}
