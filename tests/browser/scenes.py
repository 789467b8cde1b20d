"""Installations to look at: an empty one, and one with something in every state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from approvals.models import Job, Request
from approvals.ports import Subject
from keyvault.audit import sequencer
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory.models import Key
from tests.approvals.conftest import House
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
    findings.open(
        kind=FindingKind.ORPHAN,
        subject=Subject("connection", "x", "ledger-db"),
        sentence="The role app_reader_9 exists and nobody asked for it.",
        now=now,
    )
    key.refresh_from_db()
    sequencer.drain()
    return Scene(house, waiting, returned, done, key, held)
