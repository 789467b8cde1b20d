"""The suite for renewals of an admin credential finds each broken promise."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import Call, call
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
    Conflict,
    Denied,
    Misconfigured,
    Problem,
    ProviderError,
    Recovery,
    Shape,
    Transient,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.testing import AdminConformance


class Server:
    """What a server takes, and the fault that it has now."""

    def __init__(self) -> None:
        self.first = secrets.token_urlsafe(16).encode()
        self.taken = {self.first}
        self.by_tag: dict[str, bytes] = {}
        self.fault, self.struck = "", 0
        self.words: Sequence[bytes] = ()


class Memory:
    """An honest provider, side by side with replay."""

    recovery, shape = Recovery.CLIENT, Shape.MULTI

    def __init__(self, server: Server) -> None:
        self.server = server

    def admin_capabilities(self, _ctx):
        return Capabilities(self.shape, self.recovery)

    def check(self, ctx):
        return [] if self.is_taken(ctx) else [Problem("Refused.", "Enter it again.")]

    def prepare_admin(self, ctx, op_id, number):
        self.enter(ctx)
        material = {}
        if self.recovery is Recovery.CLIENT:
            material = {"password": Secret.of(secrets.token_urlsafe(16))}
        return Attempt(op_id, number, tag_of(op_id, number), material=material)

    def create_admin(self, ctx, attempt):
        if self.recovery is Recovery.CLIENT:
            value = attempt.material["password"].reveal()
        else:
            value = secrets.token_urlsafe(16).encode()
        self.change(ctx, lambda: self.add(attempt.tag, value))
        return {"password": Secret(value)}

    def add(self, tag, value):
        self.server.by_tag[tag] = value
        if self.shape is Shape.REPLACE:
            self.server.taken = {value}
        else:
            self.server.taken.add(value)

    def withdraw_admin(self, ctx, attempt):
        left = self.server.by_tag.get(attempt.tag, b"")
        self.change(ctx, lambda: self.server.taken.discard(left))

    def validate_admin(self, ctx):
        try:
            self.reach(ctx)
        except ProviderError:
            return Validation(Verdict.UNKNOWN, "admin")
        return Validation(Verdict.VALID if self.is_taken(ctx) else Verdict.INVALID, "admin")

    def revoke_admin(self, ctx, old):
        self.change(ctx, lambda: self.server.taken.discard(old["password"].reveal()))

    def is_taken(self, ctx):
        return ctx.admin["password"].reveal() in self.server.taken

    def reach(self, ctx):
        ctx.remaining()
        if self.server.fault in {"down", "hang"}:
            raise Transient("No connection.")

    def enter(self, ctx):
        self.reach(ctx)
        if not self.is_taken(ctx):
            raise Denied("The credential is refused.")

    def change(self, ctx, act):
        self.enter(ctx)
        if self.server.fault:
            self.server.struck += 1
        if self.server.fault == "lose_request":
            raise Ambiguous("No answer.")
        if self.server.fault == "hostile":
            self.refuse(b" ".join(self.server.words).decode())
        act()
        if self.server.fault == "lose_answer":
            raise Ambiguous("No answer.")

    def refuse(self, _words):
        raise Misconfigured("The server refused.")


class MemoryBench:
    """One provider before a server of its own."""

    def __init__(self, kind=Memory):
        self.server = Server()
        self.provider = kind(self.server)
        self.admin: Mapping[str, Secret] = {"password": Secret(self.server.first)}

    def call(self, *, timeout_s: float = 10.0) -> Call:
        return self.call_as(self.admin, timeout_s=timeout_s)

    def call_as(self, admin, *, timeout_s: float = 10.0) -> Call:
        return call(outbound.Guard(()), timeout_s=timeout_s, config={}, options={}, admin=admin)

    @contextmanager
    def having(self, fault, words=()):
        self.server.fault, self.server.words = fault, words
        yield
        self.server.fault = ""

    def lose_request(self):
        return self.having("lose_request")

    def lose_answer(self):
        return self.having("lose_answer")

    def hang(self):
        return self.having("hang")

    def down(self):
        return self.having("down")

    def hostile(self, words):
        return self.having("hostile", words)

    def struck(self):
        return self.server.struck

    def admin_secrets(self):
        return [secret.reveal() for secret in self.admin.values()]

    def session(self, issued):
        raise NotImplementedError


class Replaces(Memory):
    shape = Shape.REPLACE


class Chooses(Memory):
    recovery = Recovery.DIFF


class TestSideBySide(AdminConformance):
    @pytest.fixture
    def bench(self):
        return MemoryBench()


class TestOneReplacesTheOther(AdminConformance):
    @pytest.fixture
    def bench(self):
        return MemoryBench(Replaces)


class TestTheProviderChooses(AdminConformance):
    # An equal attempt is found again, not made again.
    test_an_equal_attempt_creates_once = None

    @pytest.fixture
    def bench(self):
        return MemoryBench(Chooses)


class SaysThatItIsSideBySide(Replaces):
    def admin_capabilities(self, _ctx):
        return Capabilities(Shape.MULTI, self.recovery)


class NamesAnotherAccount(Memory):
    def validate_admin(self, ctx):
        found = super().validate_admin(ctx)
        is_new = ctx.admin["password"].reveal() != self.server.first
        return replace(found, principal="another") if is_new else found


class RevokesNothing(Memory):
    def revoke_admin(self, ctx, _old):
        self.enter(ctx)


class RevokesAll(Memory):
    def revoke_admin(self, ctx, _old):
        self.change(ctx, self.server.taken.clear)


class RevokesOnceOnly(Memory):
    def revoke_admin(self, ctx, old):
        if old["password"].reveal() not in self.server.taken:
            raise Conflict("It is gone.")
        super().revoke_admin(ctx, old)


class RenewsOnceOnly(Memory):
    def prepare_admin(self, ctx, op_id, number):
        if len(self.server.by_tag) > 0:
            raise Conflict("It was renewed already.")
        return super().prepare_admin(ctx, op_id, number)


class ChangesInThePlan(Memory):
    def prepare_admin(self, ctx, op_id, number):
        found = super().prepare_admin(ctx, op_id, number)
        self.server.taken.add(found.material["password"].reveal())
        return found


class MakesAnother(Memory):
    """Has the recovery class of one that replays, and makes a new value each time."""

    def create_admin(self, ctx, attempt):
        value = secrets.token_urlsafe(16).encode()
        self.change(ctx, lambda: self.add(attempt.tag, value))
        return {"password": Secret(value)}


class RemembersThePlan(Memory):
    """Needs more than what is stored of an attempt."""

    plan = None

    def prepare_admin(self, ctx, op_id, number):
        self.plan = super().prepare_admin(ctx, op_id, number)
        return self.plan

    def create_admin(self, ctx, attempt):
        if attempt is not self.plan:
            raise Misconfigured("What plan?")
        return super().create_admin(ctx, attempt)


class ShowsTheValue(Memory):
    def prepare_admin(self, ctx, op_id, number):
        found = super().prepare_admin(ctx, op_id, number)
        return replace(found, facts={"value": found.material["password"].reveal().decode()})


class CallsALostAnswerHarmless(Memory):
    def create_admin(self, ctx, attempt):
        try:
            return super().create_admin(ctx, attempt)
        except Ambiguous:
            raise Transient("Nothing happened.") from None


class HidesALostRequest(Memory):
    def create_admin(self, ctx, attempt):
        try:
            return super().create_admin(ctx, attempt)
        except Ambiguous:
            return dict(attempt.material)


class EndsTheOldOneFirst(Memory):
    def create_admin(self, ctx, _attempt):
        self.enter(ctx)
        self.server.taken.discard(ctx.admin["password"].reveal())
        raise Ambiguous("No answer.")


class WithdrawsAll(Memory):
    def withdraw_admin(self, ctx, _attempt):
        self.change(ctx, self.server.taken.clear)


class RevokesWithoutRepeat(Memory):
    """Ends a credential in two steps, of which it repeats only the first."""

    begun = False

    def revoke_admin(self, ctx, old):
        if self.begun:
            return
        self.begun = True
        self.enter(ctx)
        if self.server.fault == "lose_answer":
            self.server.struck += 1
            raise Ambiguous("No answer.")
        super().revoke_admin(ctx, old)


class JudgesAnOutage(Memory):
    def validate_admin(self, ctx):
        try:
            self.reach(ctx)
        except ProviderError:
            return Validation(Verdict.INVALID, "admin")
        return super().validate_admin(ctx)


class RepeatsTheServersWords(Memory):
    def refuse(self, words):
        raise Misconfigured(f"The server said: {words}")


class WaitsForEver(Memory):
    def reach(self, ctx):
        if self.server.fault == "hang":
            time.sleep(5)
        super().reach(ctx)


class IgnoresTheDeadline(Memory):
    def create_admin(self, ctx, attempt):
        return super().create_admin(replace(ctx, deadline_at=ctx.deadline_at + 60), attempt)


BROKEN = [
    (SaysThatItIsSideBySide, "the_new_one_works_for_the_same_account"),
    (NamesAnotherAccount, "the_new_one_works_for_the_same_account"),
    (RevokesNothing, "revoke_ends_the_old_one_alone"),
    (RevokesAll, "revoke_ends_the_old_one_alone"),
    (RevokesOnceOnly, "revoke_ends_the_old_one_alone"),
    (RenewsOnceOnly, "one_renewal_follows_another"),
    (ChangesInThePlan, "a_plan_changes_nothing"),
    (MakesAnother, "an_equal_attempt_creates_once"),
    (RemembersThePlan, "an_attempt_survives_storage"),
    (ShowsTheValue, "no_public_part_holds_a_secret"),
    (HidesALostRequest, "a_lost_request_leaves_the_old_one"),
    (EndsTheOldOneFirst, "a_lost_request_leaves_the_old_one"),
    (CallsALostAnswerHarmless, "a_lost_answer_is_ambiguous_and_the_verdicts_tell"),
    (MakesAnother, "a_lost_answer_is_ambiguous_and_the_verdicts_tell"),
    (WithdrawsAll, "withdrawing_touches_nothing_else"),
    (RevokesWithoutRepeat, "a_revoke_that_lost_its_answer_can_be_repeated"),
    (JudgesAnOutage, "an_outage_is_no_verdict"),
    (RepeatsTheServersWords, "errors_repeat_nothing_of_what_the_server_says"),
    (WaitsForEver, "a_hanging_server_is_left_by_the_deadline"),
    (JudgesAnOutage, "a_hanging_server_is_left_by_the_deadline"),
    (IgnoresTheDeadline, "a_call_without_time_left_changes_nothing"),
]


@pytest.mark.parametrize(("kind", "promise"), BROKEN)
def test_a_broken_promise_is_found(kind, promise):
    promised = getattr(AdminConformance(), f"test_{promise}")
    promised(MemoryBench())
    with pytest.raises((AssertionError, pytest.fail.Exception, ProviderError)):
        promised(MemoryBench(kind))


def test_every_promise_is_broken_by_somebody():
    promises = {name for name in dir(AdminConformance) if name.startswith("test_")}
    assert promises == {f"test_{promise}" for _, promise in BROKEN}
