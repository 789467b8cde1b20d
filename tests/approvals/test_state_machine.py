"""Let hypothesis play every part against the services, and check what must always hold."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from approvals import execution, ports, queue, receipts, services
from approvals.models import Decision, Job
from approvals.policy.rules import Rules
from keyvault.audit.models import Event
from tests import cast as people
from tests.approvals.acts import fresh_world
from tests.approvals.conftest import PROD, House

pytestmark = pytest.mark.django_db

NO = (services.Closed, services.Stale, services.NotEligible, ports.NotVisible)
ENDS = {"done", "rejected", "expired", "withdrawn", "invalidated", "failed"}
VOTERS = ("alice", "bob", "carol", "grace", "mallory")
MOVES = {
    "pending": {"pending", "changes_asked", "approved", "rejected", "expired", "withdrawn"},
    "changes_asked": {"pending", "changes_asked", "expired", "withdrawn"},
    "approved": {"approved", "executing", "done", "failed", "withdrawn", "invalidated"},
    "executing": {"executing", "done", "failed"},
}


class Requests(RuleBasedStateMachine):
    """One request and everybody who may touch it, in any order."""

    def __init__(self):
        super().__init__()
        self.block = transaction.atomic()
        # Rolled back in teardown, so that every run starts on an empty house.
        self.block._from_testcase = True
        self.block.__enter__()
        assert execution.execute
        now = timezone.now()
        self.house = House(people.assemble(now=now), now, fresh_world())
        people.join(self.house.cast.grace, "security", now=now - timedelta(days=1))
        with transaction.atomic():
            services.seed_policies([PROD], now)
        self.request = self.house.ask()
        self.seen = [self.request.plan_digest]
        self.last = "pending"

    def teardown(self):
        transaction.set_rollback(True)
        self.block.__exit__(None, None, None)

    def look(self):
        self.request.refresh_from_db()
        return self.request

    def is_open(self):
        return self.look().state not in ENDS

    def attempt(self, act):
        """Do something that may be refused; a refusal must change nothing."""
        before = self.trace()
        try:
            act()
        except NO:
            assert self.trace() == before

    def trace(self):
        row = self.look()
        decisions = Decision.objects.filter(request=row).count()
        return (row.state, row.revision, decisions, Event.objects.filter(request_id=row.pk).count())

    @rule(
        name=st.sampled_from(VOTERS),
        verdict=st.sampled_from(["approve", "approve", "approve", "changes", "reject"]),
        page=st.integers(0, 3),
    )
    def decide(self, name, verdict, page):
        user, row = getattr(self.house.cast, name), self.look()
        digest = self.seen[-1 - min(page, len(self.seen) - 1)] if page else row.plan_digest
        self.attempt(lambda: self.house.say(user, row, verdict, plan_digest=digest))

    @rule()
    def the_two_who_should_agree(self):
        for user in (self.house.cast.bob, self.house.cast.carol):
            row = self.look()
            self.attempt(lambda user=user, row=row: self.house.say(user, row))

    @rule(colour=st.sampled_from(["green", "blue"]))
    def edit(self, colour):
        self.attempt(lambda: self.house.edit(self.request, colour=colour))
        self.seen.append(self.look().plan_digest)

    @rule(name=st.sampled_from(["bob", "carol", "mallory", "grace", "bob", "alice"]))
    def withdraw(self, name):
        user = getattr(self.house.cast, name)
        self.attempt(
            lambda: services.withdraw(request_id=self.request.pk, person=user, now=self.house.now)
        )

    @rule(hours=st.sampled_from([1, 2, 3, 5, 8, 13, 23, 24]))
    def time_passes_for_the_clock(self, hours):
        services.expire(now=self.house.later(hours=hours))

    @rule()
    def the_world_moves(self):
        self.house.world.colour = "yellow" if self.house.world.colour == "grey" else "grey"

    @rule(name=st.sampled_from(["bob", "carol"]), back=st.booleans())
    def somebody_loses_or_gets_back_an_account(self, name, back):
        user = getattr(self.house.cast, name)
        type(user).objects.filter(pk=user.pk).update(is_active=back)

    @rule(quorum=st.integers(1, 2))
    def the_policy_is_edited(self, quorum):
        stages = [PROD["stages"][0] | {"quorum": quorum}, PROD["stages"][1]]
        rules = Rules.from_json(PROD | {"stages": stages, "different_teams": False})
        with transaction.atomic():
            services.save_policy(rules=rules, actor=people.HOST, now=self.house.now)
        self.seen.append(self.look().plan_digest)

    @rule(
        fault=st.sampled_from(
            [None, None, ports.Unfinished("x", "x"), ports.CannotExecute("x", "x"), ValueError("x")]
        )
    )
    def a_worker_runs_everything_that_is_due(self, fault):
        self.house.world.fault = fault
        Job.objects.filter(state="ready").update(due_at=Now())
        for job in list(Job.objects.filter(state="ready").values_list("pk", flat=True)):
            queue.run(job, worker="machine", now=self.house.now)

    @rule()
    def somebody_rings_for_it_by_name(self):
        with transaction.atomic():
            job = queue.enqueue(kind="request.execute", subject_id=self.request.pk)
        self.house.world.fault = None
        queue.run(job, worker="ringer", now=self.house.now)

    @precondition(lambda _self: Job.objects.filter(state="held").exists())
    @rule()
    def an_administrator_resumes_what_is_held(self):
        for job in queue.held():
            queue.resume(job_id=job.id, person=self.house.cast.frank, now=self.house.now)

    @invariant()
    def it_runs_at_most_once_and_only_when_done(self):
        ran = self.house.world.ran.count(self.request.pk)
        assert ran <= 1
        assert (self.look().state == "done") == (ran == 1)

    @invariant()
    def an_end_is_final_and_moves_are_those_of_the_design(self):
        state = self.look().state
        assert state in MOVES.get(self.last, {self.last})
        self.last = state

    @invariant()
    def what_ended_undone_gave_back_exactly_once(self):
        closed = [pair for pair in self.house.world.closed if pair[0] == self.request.pk]
        undone = self.look().state in ENDS - {"done"}
        assert closed == ([(self.request.pk, self.request.state)] if undone else [])

    @invariant()
    def every_decision_is_signed_and_none_is_the_requesters(self):
        for decision in Decision.objects.filter(request=self.request):
            assert decision.person_id != self.request.requester_id
            assert receipts.is_genuine(decision)

    @invariant()
    def nothing_was_started_without_two_approvals_of_one_revision(self):
        row = self.look()
        if row.started_at is None:
            return
        approvals = Decision.objects.filter(
            request=row, revision=row.revision, verdict="approve", plan_digest=row.plan_digest
        )
        assert approvals.count() >= 2
        assert not Decision.objects.filter(
            request=row, revision=row.revision, verdict__in=["reject", "changes"]
        ).exists()

    @invariant()
    def the_ledger_tells_the_state(self):
        row = self.look()
        told = {
            "done": "request.done",
            "expired": "request.expired",
            "withdrawn": "request.withdrawn",
            "invalidated": "request.invalidated",
            "failed": "request.failed",
        }.get(row.state)
        events = Event.objects.filter(request_id=row.pk)
        if told:
            assert events.filter(event=told).count() == 1
        decided = events.filter(event="request.decided").count()
        assert decided == Decision.objects.filter(request=row).count()


def test_no_sequence_of_acts_breaks_a_request():
    run_state_machine_as_test(
        Requests,
        settings=settings(
            max_examples=12,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.campaign
def test_no_long_sequence_of_acts_breaks_a_request():
    run_state_machine_as_test(
        Requests,
        settings=settings(
            max_examples=300,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
