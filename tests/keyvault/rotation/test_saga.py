"""The pure machine: a model plays providers, dependents, people and clocks against it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from keyvault.rotation import holding, saga
from keyvault.rotation.models import DeliveryState, RotationState
from keyvault.rotation.moves import DONE
from keyvault.rotation.saga import (
    ALLOWED,
    ENDS,
    POINT_OF_NO_RETURN,
    Cause,
    Choice,
    Do,
    Go,
    Old,
    Part,
    Progress,
    Seen,
    State,
    Step,
    Terms,
    Wait,
    decide,
)

TERMS = Terms(grace_s=100, quiet_s=10, overlap_s=5)
BROWNOUT = replace(TERMS, brownout_s=20, brownout_most=2)


def seen(state, **facts):
    return replace(Seen(state=state, terms=TERMS), **facts)


def part(progress, wave=0, *, has_new=False):
    return Part(wave, progress, has_new)


class Rotation(RuleBasedStateMachine):
    """One rotation among dependents that may be stuck, ill or fall back, on a model provider."""

    def __init__(self):
        super().__init__()
        self.state, self.wave, self.since, self.clock = State.PLANNED, 0, 0.0, 0.0
        self.parts = {}
        self.old_works, self.new_works = True, False
        self.verdict, self.label = Old.UNTRIED, "old"
        self.quiet_since, self.is_observable = None, True
        self.wants_back = self.may_go_on = False
        self.key_lives, self.cause, self.held_from = True, None, None
        self.was_revoked_by_us = False
        self.terms, self.can_suspend, self.is_suspended = TERMS, False, False
        self.browned_at, self.misses = None, 0

    # --- the world

    @rule(
        waves=st.lists(st.integers(0, 2), max_size=4),
        is_observable=st.booleans(),
        terms=st.sampled_from([TERMS, BROWNOUT]),
        can_suspend=st.booleans(),
    )
    @precondition(lambda self: self.state is State.PLANNED and not self.parts)
    def dependents(self, waves, is_observable, terms, can_suspend):
        self.terms, self.can_suspend = terms, can_suspend
        self.parts = {
            number: {"wave": wave, "progress": Progress.WAITING, "has_new": False, "on": "old"}
            for number, wave in enumerate(waves)
        }
        self.is_observable = is_observable

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0, 120.0]))
    def time_passes(self, seconds):
        self.clock += seconds

    @rule(pick=st.integers(0, 3), progress=st.sampled_from([Progress.CONFIRMED, Progress.FAILED]))
    def a_dependent_moves(self, pick, progress):
        one = self.parts.get(pick)
        if one and one["has_new"]:
            one["progress"], one["on"] = progress, "new"

    @rule(pick=st.integers(0, 3))
    def a_dependent_returns(self, pick):
        one = self.parts.get(pick)
        if one and self.label == "old" and one["on"] == "new":
            one["on"] = "old"
            if one["progress"] is Progress.CONFIRMED:
                one["progress"] = Progress.RESTARTING

    @rule()
    def the_old_one_is_used(self):
        self.quiet_since = self.clock

    @rule()
    @precondition(lambda self: self.is_suspended and self.state is State.BROWNOUT)
    def somebody_fails_without_the_old_one(self):
        self.misses += 1

    @rule()
    def the_old_one_dies_by_itself(self):
        if self.state not in POINT_OF_NO_RETURN:
            self.old_works = False

    @rule()
    def somebody_wants_back(self):
        self.wants_back = True

    @rule()
    def the_key_is_revoked(self):
        if self.state not in ENDS:
            self.key_lives = False
            self.old_works = self.new_works = False

    @rule(choice=st.sampled_from(list(Choice)))
    @precondition(lambda self: self.state is State.HELD)
    def a_person_chooses(self, choice):
        where = replace(self.look(), state=self.held_from)
        if choice not in saga.choices(where):
            return
        if choice is Choice.ROLL_BACK:
            self.wants_back = True
        if choice is Choice.GO_ON:
            self.may_go_on = True
        self.verdict = Old.UNTRIED
        self.enter(Go(self.held_from))

    @rule()
    @precondition(lambda self: self.state is State.HELD)
    def a_worker_looks_at_a_hold(self):
        where = replace(self.look(), state=self.held_from)
        if holding.is_over(where, self.cause):
            assert decide(where) != Go(State.HELD, cause=self.cause), "it would be held again"
            self.verdict = Old.UNTRIED
            self.enter(Go(self.held_from))

    # --- the worker

    def look(self):
        return Seen(
            state=self.state,
            terms=self.terms,
            wave=self.wave,
            parts=[
                Part(one["wave"], one["progress"], one["has_new"]) for one in self.parts.values()
            ],
            since_s=self.clock - self.since,
            old=self.verdict,
            silent_s=self.silent(),
            key_lives=self.key_lives,
            is_promoted=self.label == "new",
            wants_back=self.wants_back,
            may_go_on=self.may_go_on,
            is_back=not any(one["on"] == "new" for one in self.parts.values()),
            can_suspend=self.can_suspend,
            is_suspended=self.is_suspended,
            browned_s=None if self.browned_at is None else self.clock - self.browned_at,
            misses=self.misses,
        )

    def silent(self):
        if not self.is_observable:
            return None
        return self.clock - self.quiet_since if self.quiet_since is not None else 0.0

    @rule()
    def the_worker_looks(self):
        if self.state is State.DRAINING and self.quiet_since is None:
            self.quiet_since = self.clock
        if self.state is State.BROWNOUT and self.browned_at is not None:
            behind = [one for one in self.parts.values() if one["progress"] not in DONE]
            self.misses = max(self.misses, len(behind))
        match decide(self.look()):
            case Do(step):
                self.do(step)
            case Go() as way:
                self.enter(way)
            case Wait(seconds):
                assert 0 < seconds <= self.terms.grace_s
            case None:
                assert self.state in ENDS | {State.HELD}

    def enter(self, way):
        assert way.state in ALLOWED[self.state] or way.wave is not None
        # One that was held on its way back had been tried before that.
        is_new = way.state is State.ROLLING_BACK and self.held_from is not State.ROLLING_BACK
        if is_new and way.cause is not Cause.KEY_ENDED:
            assert self.verdict in {Old.VALID, Old.UNKNOWN}, "rule 5: tried, and not dead"
        if way.state is State.REVOKING and not self.may_go_on:
            self.check_brownout()
        if way.state is State.HELD:
            self.wants_back = False
        self.held_from = self.state if way.state is State.HELD else None
        if way.state is State.BROWNOUT:
            self.browned_at, self.misses = None, 0
        if way.wave is not None:
            self.wave, self.verdict = way.wave, Old.UNTRIED
        self.state, self.since, self.cause = way.state, self.clock, way.cause

    def do(self, step):
        getattr(self, f"do_{step}")()

    def do_create(self):
        self.new_works = self.key_lives
        self.enter(Go(State.CREATED))

    def do_validate(self):
        self.enter(Go(State.VALIDATED))

    def do_stage(self):
        self.enter(Go(State.STAGED))

    def do_promote(self):
        self.label = "new"
        for one in self.parts.values():
            if one["wave"] == self.wave and one["progress"] is Progress.WAITING:
                one.update(progress=Progress.RESTARTING, has_new=True)

    def do_try_old(self):
        assert not self.is_suspended, "it would seem dead"
        self.verdict = Old.VALID if self.old_works else Old.INVALID

    def do_suspend_old(self):
        assert self.can_suspend
        assert self.state is State.BROWNOUT
        assert not self.wants_back
        self.is_suspended, self.browned_at, self.misses = True, self.clock, 0

    def do_resume_old(self):
        self.is_suspended = False

    def do_revoke_old(self):
        self.check_revocation()
        self.old_works, self.was_revoked_by_us = False, True
        self.enter(Go(State.REVOKE_VERIFIED))

    def do_finish(self):
        self.enter(Go(State.COMPLETED))

    def do_fall_back(self):
        self.label = "old"
        for one in self.parts.values():
            if one["has_new"]:
                one.update(has_new=False, progress=Progress.RESTARTING)

    def do_revoke_new(self):
        self.new_works = False
        self.enter(Go(State.ROLLED_BACK, cause=self.cause))

    def check_revocation(self):
        """I3: everybody confirmed and it was silent, or a named person said to go on."""
        assert self.label == "new"
        if self.may_go_on:
            return
        assert all(one["progress"] in DONE for one in self.parts.values())
        assert self.is_observable

    def check_brownout(self):
        """Rule 14: it was off for as long as was wanted, and nobody failed."""
        if self.terms.brownout_s and self.can_suspend:
            assert self.is_suspended
            assert self.clock - self.browned_at >= self.terms.brownout_s
            assert self.misses == 0

    # --- what must hold

    @invariant()
    def i1_what_is_current_works_unless_the_world_broke_it(self):
        if self.key_lives and self.state not in ENDS:
            assert self.label == "old" or self.new_works
        if self.state is State.COMPLETED and self.key_lives:
            assert self.label == "new"
            assert self.new_works

    @invariant()
    def i2_nobody_is_left_on_a_version_that_we_ended(self):
        if self.state is State.ROLLED_BACK and self.key_lives and not self.may_go_on:
            assert not any(one["on"] == "new" for one in self.parts.values())
        if self.was_revoked_by_us and not self.may_go_on:
            assert all(one["on"] == "new" for one in self.parts.values())

    @invariant()
    def the_old_one_is_off_only_in_a_brown_out(self):
        if self.is_suspended and self.key_lives:
            assert self.state in {State.BROWNOUT, *POINT_OF_NO_RETURN}
        if self.state is State.HELD and self.cause is Cause.NEEDED:
            assert not self.is_suspended

    @invariant()
    def i6_nothing_hangs(self):
        """A rotation that waits has a person told, or will be looked at within its grace."""
        if self.state not in ENDS | {State.HELD}:
            assert decide(self.look()) is not None
        if self.state is State.HELD:
            assert self.cause is not None
            assert Choice.EXTEND in saga.choices(replace(self.look(), state=self.held_from))


TestModel = Rotation.TestCase
TestModel.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


@pytest.mark.campaign
class TestModelAtLength(Rotation.TestCase):
    settings = settings(max_examples=5_000, stateful_step_count=80, deadline=None)


def test_the_words_of_the_tables_are_those_of_the_machine():
    assert {str(one) for one in State} == set(RotationState.values)
    assert {str(one) for one in Progress} == set(DeliveryState.values)


def test_every_state_has_a_way_to_an_end():
    def reach(state, passed=()):
        return state in ENDS or any(
            reach(after, (*passed, state)) for after in ALLOWED[state] - {*passed, state}
        )

    assert all(reach(state) for state in State)


def test_no_way_leads_back_from_the_point_of_no_return():
    for state in POINT_OF_NO_RETURN:
        assert not ALLOWED[state] & (saga.REVERSIBLE | {State.ROLLING_BACK})


def test_the_old_version_is_ended_only_when_all_is_proved():
    proved = seen(
        State.DRAINING,
        is_promoted=True,
        parts=[part(Progress.CONFIRMED)],
        since_s=6,
        silent_s=10,
    )
    assert decide(proved) == Go(State.REVOKING)
    assert isinstance(decide(replace(proved, silent_s=9)), Wait)
    assert isinstance(decide(replace(proved, since_s=4)), Wait)
    assert isinstance(decide(replace(proved, parts=[part(Progress.RESTARTING)])), Wait)
    assert decide(replace(proved, silent_s=None)) == Go(State.HELD, cause=Cause.UNOBSERVED)


def test_the_old_version_is_switched_off_before_it_is_ended_where_that_is_wanted_and_can_be():
    proved = seen(State.DRAINING, is_promoted=True, parts=[part(Progress.CONFIRMED)], since_s=6)
    proved = replace(proved, silent_s=10, terms=BROWNOUT)
    assert decide(proved) == Go(State.REVOKING)
    assert decide(replace(proved, can_suspend=True)) == Go(State.BROWNOUT)
    assert decide(replace(proved, can_suspend=True, terms=TERMS)) == Go(State.REVOKING)
    assert decide(replace(proved, can_suspend=True, may_go_on=True)) == Go(State.REVOKING)


def test_a_brown_out_lasts_its_time_and_counts_from_the_answer_of_the_provider():
    off = seen(State.BROWNOUT, terms=BROWNOUT, parts=[part(Progress.CONFIRMED)], since_s=500)
    assert decide(off) == Do(Step.SUSPEND_OLD)
    ill = replace(off, parts=[part(Progress.RESTARTING)], since_s=5)
    assert isinstance(decide(ill), Wait), "who failed the last time is waited for"
    assert decide(replace(ill, is_suspended=True)) == Do(Step.RESUME_OLD)
    assert decide(replace(ill, since_s=100)) == Go(State.HELD, cause=Cause.UNCONFIRMED)
    assert decide(replace(off, is_suspended=True)) == Do(Step.SUSPEND_OLD), "the answer was lost"
    off = replace(off, is_suspended=True, browned_s=19.5)
    assert decide(off) == Wait(0.5)
    assert decide(replace(off, browned_s=20)) == Go(State.REVOKING)
    assert decide(replace(off, may_go_on=True)) == Go(State.REVOKING)


@pytest.mark.parametrize(
    ("misses", "browned_s", "progress"),
    [(2, 0.0, "confirmed"), (2, None, "confirmed"), (1, 20.0, "confirmed"), (0, 20.0, "failed")],
)
def test_whoever_fails_has_it_switched_on_again_and_a_person_is_asked(misses, browned_s, progress):
    missed = seen(State.BROWNOUT, terms=BROWNOUT, is_suspended=True, misses=misses)
    missed = replace(missed, browned_s=browned_s, parts=[part(Progress(progress))])
    assert decide(missed) == Do(Step.RESUME_OLD)
    on_again = replace(missed, is_suspended=False)
    assert decide(on_again) == Go(State.HELD, cause=Cause.NEEDED)
    assert saga.choices(replace(on_again, is_promoted=True)) == set(Choice)


def test_fewer_who_fail_are_waited_for_so_that_all_of_them_show():
    missed = seen(State.BROWNOUT, terms=BROWNOUT, is_suspended=True, misses=1, browned_s=5)
    assert isinstance(decide(missed), Wait)


def test_what_is_switched_off_is_switched_on_before_anybody_is_led_back():
    wanted = seen(State.BROWNOUT, terms=BROWNOUT, is_suspended=True, wants_back=True, browned_s=5)
    assert decide(wanted) == Do(Step.RESUME_OLD)
    assert decide(replace(wanted, is_suspended=False)) == Do(Step.TRY_OLD)


def test_who_does_not_move_in_time_holds_the_rotation():
    stuck = seen(State.PROMOTING, is_promoted=True, parts=[part(Progress.RESTARTING)], since_s=99)
    assert isinstance(decide(stuck), Wait)
    assert decide(replace(stuck, since_s=100)) == Go(State.HELD, cause=Cause.UNCONFIRMED)


def test_a_hold_is_over_when_all_of_its_wave_have_come_and_for_no_other_reason():
    late = seen(
        State.PROMOTING, wave=1, parts=[part(Progress.CONFIRMED, 1), part(Progress.WAITING, 2)]
    )
    assert holding.is_over(late, Cause.UNCONFIRMED)
    assert holding.is_over(replace(late, parts=[part(Progress.EXCUSED, 1)]), Cause.UNCONFIRMED)
    for progress in set(Progress) - {Progress.CONFIRMED, Progress.EXCUSED}:
        assert not holding.is_over(replace(late, parts=[part(progress, 1)]), Cause.UNCONFIRMED)
    assert not holding.is_over(replace(late, key_lives=False), Cause.UNCONFIRMED)
    assert not holding.is_over(replace(late, state=State.DRAINING), Cause.UNCONFIRMED)
    for cause in set(Cause) - {Cause.UNCONFIRMED}:
        assert not holding.is_over(late, cause)


def test_a_dependent_that_is_ill_sends_the_rotation_back_unless_the_old_one_died():
    ill = seen(State.PROMOTING, is_promoted=True, parts=[part(Progress.FAILED, has_new=True)])
    assert decide(ill) == Do(Step.TRY_OLD)
    assert decide(replace(ill, old=Old.VALID)) == Go(State.ROLLING_BACK, cause=Cause.FAILED)
    assert decide(replace(ill, old=Old.UNKNOWN)) == Go(State.ROLLING_BACK, cause=Cause.FAILED)
    assert decide(replace(ill, old=Old.INVALID)) == Go(State.HELD, cause=Cause.OLD_DIED)


def test_what_nobody_could_tell_is_no_reason_to_stop():
    known = seen(State.PROMOTING, is_promoted=True, parts=[part(Progress.CONFIRMED)])
    assert decide(replace(known, old=Old.UNKNOWN)) == Go(State.DRAINING)


def test_waves_go_one_after_the_other_and_the_old_one_is_tried_between_them():
    parts = [part(Progress.CONFIRMED, 0), part(Progress.WAITING, 2)]
    canary = seen(State.PROMOTING, wave=0, parts=parts)
    assert decide(canary) == Do(Step.TRY_OLD)
    assert decide(replace(canary, old=Old.VALID)) == Go(State.PROMOTING, wave=2)
    assert decide(replace(canary, old=Old.INVALID)) == Go(State.HELD, cause=Cause.OLD_DIED)
    assert decide(replace(canary, wave=2)) == Do(Step.PROMOTE)


def test_what_a_person_wants_back_is_tried_first():
    wanted = seen(State.DRAINING, is_promoted=True, wants_back=True)
    assert decide(wanted) == Do(Step.TRY_OLD)
    assert decide(replace(wanted, old=Old.VALID)) == Go(State.ROLLING_BACK, cause=Cause.ASKED)
    assert decide(replace(wanted, old=Old.INVALID)) == Go(State.HELD, cause=Cause.OLD_DIED)


def test_nothing_goes_back_to_a_credential_that_died():
    held = seen(State.PROMOTING, is_promoted=True, old=Old.INVALID)
    assert saga.choices(held) == {Choice.EXTEND, Choice.GO_ON}
    assert Choice.ROLL_BACK in saga.choices(replace(held, old=Old.VALID))
    assert saga.choices(seen(State.REVOKING)) == {Choice.EXTEND}
