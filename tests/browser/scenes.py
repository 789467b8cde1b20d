"""Installations to look at: an empty one, and one with something in every state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from django.db import transaction

from approvals.models import Job, Request
from approvals.ports import Subject
from keyvault.agents import bindings, clients, memberships, services, trusts
from keyvault.agents.models import Agent
from keyvault.agents.terms import Terms
from keyvault.audit import sequencer
from keyvault.connections import adopting, shadows
from keyvault.connections.models import Connection
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.invalidation.models import GatewayInstance
from keyvault.inventory import grants
from keyvault.inventory.models import Key
from keyvault.leases.models import LIVING, Lease, LeaseState
from keyvault.providers.base import RemoteKey
from keyvault.usage.models import LoadedVersion
from tests.approvals.conftest import House
from tests.cast import Cast
from tests.keyvault.agents import builders as agents
from tests.keyvault.invalidation import snapshots
from tests.keyvault.inventory import builders
from tests.keyvault.vault import rows

LONG_NAME = "ledger-reader-" + "x" * 31 + "end"
HOSTILE = "Bitte \u202esofort\u202c <b onclick=alert(1)>freigeben</b> [hier](javascript:alert(1))"


@dataclass
class Scene:
    """What a busy installation holds, by what the tests ask for."""

    house: House
    waiting: Request
    returned: Request
    done: Request
    key: Key
    held: Job


def _gateways(now: datetime) -> None:
    """Note a gateway in each state, one under a name that is long."""
    applied = snapshots.everything()
    rows = (
        ("gate-1:4711", now + timedelta(hours=1), None),
        ("gate-" + "x" * 90 + ":4712", now - timedelta(minutes=3), None),
        ("gate-3:4713", now - timedelta(minutes=9), now - timedelta(minutes=9)),
    )
    for name, seen_at, ended_at in rows:
        GatewayInstance.objects.create(
            name=name,
            address="https://gateway.example",
            audit_mode="durable",
            version="0.3.0",
            started_at=now - timedelta(minutes=30),
            seen_at=seen_at,
            ended_at=ended_at,
            applied=applied,
        )


def _shadows(now: datetime) -> None:
    """Note credentials at a provider that no key answers for: a plain one, one long and hostile."""
    seen = [
        RemoteKey("key_5512", hint="sk-...5512", created_at=now - timedelta(days=300)),
        RemoteKey("x" * 120, hint=HOSTILE, last_used_at=now - timedelta(minutes=3)),
    ]
    where = Connection.objects.get(slug="ledger-db")
    Connection.objects.filter(pk=where.pk).update(foreign_count=9)
    with transaction.atomic():
        shadows.note(connection=where, foreign=seen, now=now - timedelta(days=2))


def _adopted(cast: Cast, now: datetime) -> None:
    """Make a key of a value that people brought, without its id at the provider."""
    key, request_id = builders.live(cast, name="adopted-key", now=now), uuid4()
    with transaction.atomic():
        more = {"actor": agents.TESTS, "now": now}
        adopting.propose(key=key, value="sk-adopted-canary", remote_id="", **more)
        adopting.bind(key_ids=[key.pk], request_id=request_id)
        adopting.take(key=key, request_id=request_id, **more)


LONG_AGENT = "scout-" + "x" * 38 + "-end"


def _agents(house: House, now: datetime) -> None:
    """Make agents: one with everything, one stopped, one whose every word is long or hostile."""
    cast = house.cast
    pulled = builders.live(cast, name="mail-sender", delivery_mode="pull", now=now)
    bot = agents.agent(cast, reads_outside_text=True)
    agents.granted(cast, bot, pulled)
    agents.granted(cast, cast.payments.group, pulled)
    agents.token(cast, bot, keys=["mail-sender"])
    with transaction.atomic():
        clients.add_secret(agent_id=bot.pk, actor=agents.TESTS, now=now, days=9)
        memberships.join(
            agent_id=bot.pk,
            group=cast.payments.group,
            request_id=uuid4(),
            actor=agents.TESTS,
            now=now,
        )
    with transaction.atomic():
        trust = trusts.create(
            slug="github",
            title="GitHub of Northwind",
            terms=Terms(
                "github", "https://token.actions.githubusercontent.com", "https://kv.example"
            ),
            actor=agents.TESTS,
            now=now,
        )
        bindings.create(
            trust_id=trust.pk,
            agent_id=bot.pk,
            claims={
                "repository_id": "12345",
                "repository_owner_id": "678",
                "environment": "production",
                "job_workflow_ref": "northwind/shop/.github/workflows/deploy.yml@refs/heads/main",
            },
            actor=agents.TESTS,
            now=now,
        )
    stopped = agents.agent(cast, "night-watch", backup_owner=None)
    agents.agent(cast, LONG_AGENT, title="Wide " * 20 + "t" * 20, purpose=HOSTILE)
    with transaction.atomic():
        services.set_state(
            agent_id=stopped.pk,
            state="suspended",
            cause=HOSTILE,
            actor=agents.TESTS,
            now=now,
            contains=True,
        )


def _leases(cast: Cast, now: datetime) -> None:
    """Make a key that is lent, with a lease in every state, and one of which nobody took any."""
    where = builders.connection(cast, "github", provider="github_app")
    rights = {"permissions": "contents:write issues:read", "repositories": "shop"}
    life = {"state": "live", "live_at": now, "expires_at": now + timedelta(days=90)}
    lent = rows.key(cast, where, name="shop-repository", options=rights, **life)
    rows.key(cast, where, name="quiet-repository", options=rights, **life)
    Key.objects.filter(connection=where).update(delivery_mode="pull")
    with transaction.atomic():
        grants.give_at_go_live(key=lent, request_id=uuid4(), actor=agents.TESTS, now=now)
    holders = list(Agent.objects.filter(name__in=("refund-bot", LONG_AGENT)))
    for number, state in enumerate(LeaseState.values):
        begun = now - timedelta(minutes=3 * number + 1)
        is_living = state in LIVING
        Lease.objects.create(
            agent=holders[number % 2],
            key=lent,
            scopes=["contents:read"] if number % 3 == 0 else [],
            state=state,
            aim="returned" if state == LeaseState.ENDING else "",
            cause=HOSTILE if state in {"failed", "withdrawn"} else "",
            created_at=begun,
            taken_at=begun,
            expires_at=begun + timedelta(minutes=45),
            lapses_at=begun + timedelta(minutes=60),
            ended_at=None if is_living else now,
        )


def busy(house: House) -> Scene:
    """Fill an installation: requests and keys in every state, a held job, findings."""
    cast, now = house.cast, house.now
    waiting = house.ask(reason=HOSTILE)
    returned = house.ask(user=cast.alice, reason="Once more.", wall="south")
    house.say(cast.bob, returned, "changes", comment="Say for how long. " + HOSTILE)
    done = house.approved(wall="east")
    house.work(done)
    stuck = house.approved(wall="west")
    held = house.job(stuck)
    Job.objects.filter(pk=held.pk).update(
        state="held",
        code="provider_refused",
        sentence=f"The provider said: {HOSTILE}",
        attempts=6,
        ended_at=now,
    )
    key = builders.live(cast, now=now - timedelta(days=20))
    rows.live_version(key, key.request_id, now - timedelta(days=20), remote_id="r1")
    rows.live_version(key, uuid4(), now - timedelta(days=4), "another-value", remote_id="r2")
    Key.objects.filter(pk=key.pk).update(expires_at=now + timedelta(days=5))
    for number in range(12):
        other = builders.live(cast, name=f"key-{number:02}", now=now - timedelta(days=40))
        Key.objects.filter(pk=other.pk).update(
            expires_at=now + timedelta(days=number * 7 + 1),
            rotation_due_at=now + timedelta(days=number * 3 - 2),
        )
    builders.live(cast, name=LONG_NAME, title="Wide " * 20 + "t" * 20)
    builders.requested(cast, name="asked-for")
    _agents(house, now)
    _leases(cast, now)
    findings.open(
        kind=FindingKind.ORPHAN,
        subject=Subject("connection", "x", "ledger-db"),
        sentence="The role app_reader_9 exists and nobody asked for it.",
        now=now,
    )
    _shadows(now)
    _adopted(cast, now)
    _gateways(now)
    for number, agent in enumerate(Agent.objects.order_by("name")[:2], 1):
        LoadedVersion.objects.create(
            key=key,
            agent=agent,
            number=number,
            is_healthy=number == 1,
            first_at=now - timedelta(days=3),
            last_at=now - timedelta(minutes=number),
        )
    key.refresh_from_db()
    sequencer.drain()
    return Scene(house, waiting, returned, done, key, held)
