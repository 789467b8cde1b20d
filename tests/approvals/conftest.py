"""A wall to paint, the policies that guard it, and short words for what people do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from django.db import transaction

from approvals import digests, execution, queue, services
from approvals.models import Decision, Job, Request
from tests import cast as people
from tests.approvals.acts import Paint, World, fresh_world

PROD = {
    "name": "test-prod",
    "scope": {"kind": ["test.paint"], "environment": ["prod"]},
    "different_teams": True,
    "stages": [
        {"name": "Security", "groups": ["security"]},
        {"name": "Owner's team", "roles": ["owner_team"]},
    ],
}
DEV = {
    "name": "test-dev",
    "scope": {"kind": ["test.paint"], "environment": ["dev"]},
    "solo": ["administrators"],
    "stages": [{"name": "One approver", "groups": ["security", "payments"]}],
}
SANDBOX = {
    "name": "test-sandbox",
    "scope": {"kind": ["test.paint"], "environment": ["sandbox"]},
    "auto": "approve",
}
FROZEN = {
    "name": "test-frozen",
    "scope": {"kind": ["test.paint"], "environment": ["museum"]},
    "auto": "deny",
}


@pytest.fixture
def world() -> World:
    """Return a grey, unpainted world."""
    return fresh_world()


@dataclass
class House:
    """What people do, in one word each."""

    cast: people.Cast
    now: datetime
    world: World

    def ask(self, user=None, *, reason="It is grey.", **act) -> Request:
        with transaction.atomic():
            return services.submit(
                action=Paint(**act), requester=user or self.cast.alice, reason=reason, now=self.now
            )

    def edit(self, request, *, user=None, **act) -> Request:
        with transaction.atomic():
            return services.revise(
                request_id=request.pk,
                action=Paint(**act),
                person=user or self.cast.alice,
                now=self.now,
            )

    def proof(self, user, request, verdict="approve", *, digest=None, proved_at=None):
        bound = digests.decide_digest(
            request_id=request.pk, plan_digest=digest or request.plan_digest, verdict=verdict
        )
        return people.proof_for(user, digest=bound, now=proved_at or self.now)

    def say(self, user, request, verdict="approve", *, now=None, **more) -> Decision:
        digest = more.pop("plan_digest", request.plan_digest)
        proof = more.pop("proof_id", None) or self.proof(user, request, verdict, digest=digest)
        comment = more.pop("comment", "" if verdict == "approve" else "No.")
        return services.decide(
            request_id=request.pk,
            person=user,
            verdict=verdict,
            plan_digest=digest,
            proof_id=proof,
            comment=comment,
            now=now or self.now,
            **more,
        )

    def approved(self, **act) -> Request:
        request = self.ask(**act)
        self.say(self.cast.bob, request)
        self.say(self.cast.carol, request)
        request.refresh_from_db()
        assert request.state == "approved"
        return request

    def job(self, request, kind="request.execute") -> Job:
        return Job.objects.filter(kind=kind, subject_id=request.pk).latest("id")

    def work(self, request, *, now=None) -> Request:
        """Run the request's job once and return the request as it is then."""
        queue.run(self.job(request).pk, worker="test", now=now or self.now)
        request.refresh_from_db()
        return request

    def later(self, **span) -> datetime:
        return self.now + timedelta(**span)


@pytest.fixture
def house(cast, now, world) -> House:
    """Return the cast under the test policies; the handlers are registered."""
    assert execution.execute
    with transaction.atomic():
        services.seed_policies([PROD, DEV, SANDBOX, FROZEN], now - timedelta(days=1))
    return House(cast, now, world)
