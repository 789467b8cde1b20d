"""A working house: default policies, a provider that answers, and short words for what people do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from approvals import digests, queue, selectors, services
from keyvault.accounts.models import User
from keyvault.actions import create_key, grant_access, reveal_secret, revoke_key
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import Key
from tests import cast as people
from tests.keyvault.actions import rules
from tests.keyvault.connections import conftest as connections
from tests.keyvault.connections import fakes
from tests.keyvault.vault import rows

_registry = connections._registry
EVERYWHERE = "everywhere"


@dataclass
class House:
    """What people ask and decide, in one word each."""

    cast: people.Cast
    now: datetime
    fake: fakes.Fake

    def ask(self, person: User | None = None, **changes):
        return create_key.ask(
            person=person or self.cast.alice,
            declared=declared(**changes),
            reason="The month's close needs it.",
            now=self.now,
        )

    def say(self, person, request, verdict="approve"):
        row = selectors.access_request(person, request.pk)
        bound = digests.decide_digest(
            request_id=row.pk, plan_digest=row.plan_digest, verdict=verdict
        )
        return services.decide(
            request_id=row.pk,
            person=person,
            verdict=verdict,
            plan_digest=row.plan_digest,
            proof_id=people.proof_for(person, digest=bound, now=self.now),
            comment="" if verdict == "approve" else "Not like this.",
            now=self.now,
        )

    def work(self) -> None:
        """Do every job that is due, as a worker would."""
        for _ in range(20):
            due = queue.due(ring_again=timedelta(0), limit=50)
            if not due:
                return
            for job_id in due:
                queue.run(job_id, worker="tests", now=self.now)

    def create(self, **changes) -> Key:
        """Return a live key that was asked for, approved by one person and created."""
        request = self.ask(**changes)
        self.say(self.cast.bob, request)
        self.work()
        return Key.objects.get(request_id=request.pk)

    def permit(self, key: Key):
        """Return the approved request to reveal the key's current version to alice."""
        request = reveal_secret.ask(
            person=self.cast.alice, name=key.name, reason="To paste it.", now=self.now
        )
        self.say(self.cast.bob, request)
        self.work()
        return request

    def pull(self, **changes) -> Key:
        """Return a live key that agents fetch by API."""
        return self.create(**{"delivery_mode": "pull", **changes})

    def let_use(self, person: User | None = None, **what):
        """Ask that refund-bot may use ledger-reader for 30 days, with changes."""
        usual = {"key": "ledger-reader", "agent": "refund-bot", "days": 30}
        return grant_access.ask(
            person=person or self.cast.alice,
            reason="It pays refunds.",
            now=self.now,
            **{**usual, **what},
        )

    def revoke(self, key: Key, person: User | None = None):
        return revoke_key.ask(
            person=person or self.cast.alice, name=key.name, reason="Done.", now=self.now
        )


def declared(**changes) -> Declaration:
    """Return what alice usually asks for, with changes; production has another Connection."""
    if changes.get("environment") == "prod":
        changes = {"connection": EVERYWHERE} | changes
    usual = Declaration(
        name="ledger-reader",
        title="Ledger reader",
        environment="dev",
        connection="orders",
        team="payments",
        purpose="Reads the ledger for the month's close.",
        allowed_hosts=("db.example.com",),
    )
    return replace(usual, **changes)


@pytest.fixture
def fake(_registry):
    return fakes.install(fakes.Fake())


@pytest.fixture
def house(cast, fake, now) -> House:
    for slug, environment in (("orders", cast.dev), (EVERYWHERE, None)):
        where = rows.connection(cast, provider=fake.kind, slug=slug, environment=environment)
        connections.with_credential(where, now)
    rules.DEFAULTS.put(now)
    return House(cast, now, fake)
