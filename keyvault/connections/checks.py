"""Ask a provider or a destination, by reading only, what stands in the way; of a Connection or of a draft.

Each check asks a server of somebody's choice, so a person has a bounded number of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from approvals.ports import Actor, Subject, Unfinished
from keyvault import buckets
from keyvault.audit import ledger
from keyvault.buckets import Rate
from keyvault.connections import calls, kinds, selectors
from keyvault.connections.context import (
    CALL_S,
    guard_of,
    reach_any,
    reach_destination,
    subject_of,
)
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection
from keyvault.crypto.keyring import NoKey
from keyvault.crypto.secret import Secret
from keyvault.destinations.base import Observed
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.plugins import context
from keyvault.plugins.loading import UnknownKind
from keyvault.plugins.values import Problem
from keyvault.vault.sealing import Unreadable

# Somebody waits for the page meanwhile, and a thread of the console with it.
PLACE_S = 6.0
_TAKEN = Problem(
    "A value lies there that was not written for this place.",
    "Have it removed or choose another place: it is never replaced.",
)


# Whoever looks at one after the other needs no more; by API no more can be asked for anyway.
RATE = Rate(per_s=0.2, burst=30)


class TooMany(Exception):
    """A person has had much checked just now; the next one is allowed in `wait_s` seconds."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(
            "You have had much checked just now, and each check asks a server."
            " Wait a minute, then try again."
        )
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has shown. `problems` is empty when keys can be created."""

    problems: tuple[Problem, ...]

    @property
    def is_ready(self) -> bool:
        """Say whether nothing prevents the creation of a key."""
        return not any(problem.is_fatal for problem in self.problems)


def admit(actor: Actor) -> None:
    """Count one check that a person wants, before any server is asked. Raises TooMany.

    What keyvault checks by itself is not counted: its jobs are bounded.
    """
    if actor.kind == "system":
        return
    wait_s = buckets.take("check", actor.id, RATE)
    if wait_s:
        raise TooMany(wait_s)


def check(*, connection: Connection, actor: Actor, now: datetime) -> Checked:
    """Check a Connection with its sealed credential, note the result and its finding. Raises TooMany."""
    admit(actor)
    try:
        with (
            reach_any(connection, actor=actor, now=now, purpose="check") as reached,
            calls.spoken(),
        ):
            checked = Checked(tuple(reached.plugin.check(reached.call())))
    except (Unfinished, UnknownKind, Unreadable, NoKey) as stop:
        checked = Checked((Problem(str(stop), "Mend it and check again."),))
    _note(connection, checked, actor, now)
    return checked


def check_place(
    *,
    connection: Connection,
    target: Mapping[str, str],
    subject: Subject,
    actor: Actor,
    now: datetime,
) -> Checked:
    """Check one place at a destination before a key is laid there, by reading only; outermost.

    subject: the key. It goes where the destination's approved addresses lead and nowhere
    else, tells of what lies there only that something does, and stands in the ledger.
    Raises TooMany.
    """
    admit(actor)
    try:
        with (
            reach_destination(
                connection, actor=actor, now=now, purpose="check of a place"
            ) as reached,
            calls.spoken(),
        ):
            checked = Checked(tuple(reached.plugin.check(reached.call(target, timeout_s=PLACE_S))))
            if checked.is_ready:
                found = reached.plugin.observe(reached.call(target, timeout_s=PLACE_S))
                checked = Checked((*checked.problems, *_lying(found)))
    except (Unfinished, UnknownKind, Unreadable, NoKey) as stop:
        checked = Checked((Problem(str(stop), "Mend it and check again."),))
    sentences = [problem.sentence for problem in checked.problems]
    with transaction.atomic(durable=True):
        ledger.record(
            "place.checked",
            actor=actor,
            subject=subject,
            now=now,
            fields={"connection": connection.slug, "problems": sentences},
        )
    return checked


def _lying(found: Observed) -> tuple[Problem, ...]:
    return (_TAKEN,) if found.is_foreign or found.live is not None else ()


def check_draft(
    *, draft: Draft, credential: Mapping[str, str], approved_hosts: list[str], actor: Actor
) -> Checked:
    """Check what a form holds, before anything is asked or stored.

    Only public addresses and those already approved are reached: a form must
    not open the private network to whoever fills it in. Raises TooMany.
    """
    admit(actor)
    material = {name: Secret.of(text) for name, text in credential.items()}
    ctx = context.call(
        guard_of(approved_hosts),
        timeout_s=CALL_S,
        config=draft.config,
        options={},
        admin=material,
    )
    try:
        with calls.spoken():
            return Checked(tuple(kinds.registered(draft.provider).plugin.check(ctx)))
    except (Unfinished, UnknownKind) as stop:
        return Checked((Problem(str(stop), "Mend it and check again."),))
    finally:
        for secret in material.values():
            secret.zero()


def approved_hosts(slug: str) -> list[str]:
    """Return the private addresses that a Connection may reach already; none for a new one."""
    return list(selectors.get(slug).allowed_hosts) if selectors.exists(slug) else []


def _note(connection: Connection, checked: Checked, actor: Actor, now: datetime) -> None:
    subject = subject_of(connection)
    with transaction.atomic(durable=True):
        Connection.objects.filter(pk=connection.pk).update(
            checked_at=now, problems=[problem.to_json() for problem in checked.problems]
        )
        ledger.record(
            "connection.checked",
            actor=actor,
            subject=subject,
            now=now,
            fields={
                "problems": [problem.sentence for problem in checked.problems],
                "verdict": "ready" if checked.is_ready else "not ready",
            },
        )
        if checked.is_ready:
            findings.close(
                kind=FindingKind.CONNECTION,
                subject=subject,
                detail="check",
                sentence="A check found nothing in the way.",
                now=now,
            )
        else:
            findings.open(
                kind=FindingKind.CONNECTION,
                subject=subject,
                detail="check",
                sentence=f"No key can be created at {connection.title}: "
                + checked.problems[0].sentence,
                now=now,
                actor=actor,
            )
