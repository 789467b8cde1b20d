"""The system page: what guards the ledger and the vault, what works, and what waits for a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from approvals import queue, receipts
from approvals import selectors as approvals
from approvals.ports import NotVisible
from keyvault.accounts import gates, sessions
from keyvault.accounts import selectors as accounts
from keyvault.actions import about_keys, recover_administrator
from keyvault.audit import trust as audit
from keyvault.invalidation import selectors as invalidation
from keyvault.vault import seals
from keyvault.web import csp, lookout, parts, trust
from keyvault.web.known import known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from approvals.models import Request
    from keyvault.accounts.models import User
    from keyvault.invalidation.selectors import Gateway

OPERATORS = lookout.WATCHERS
MENDERS = "administrators"


@dataclass(frozen=True, slots=True)
class Block:
    """One card of facts. A block that cannot be read has no facts and says so."""

    slug: str
    title: str
    line: trust.Line
    facts: list[tuple[str, object]]
    help: str = ""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A held job with what it serves, and whether this person may take it up again."""

    job: queue.HeldJob
    label: str
    href: str
    may_resume: bool


@gates.signed_in
@require_GET
def system(request: HttpRequest) -> HttpResponse:
    """Show the state of the installation; jobs and findings as far as this person may see them."""
    person, now = sessions.person(request), timezone.now()
    page = {
        "nav": "system",
        "now": now,
        "blocks": blocks(now),
        "recoveries": known("recoveries", recover_administrator.waiting),
        "may_cancel": accounts.has_role(person, MENDERS),
        "keys": known("signing keys", signing_keys),
        "held": known("held jobs", lambda: held(person)),
        "findings": known("findings", lambda: lookout.sights(person)),
        "is_operator": accounts.has_role(person, *OPERATORS),
        "gateways": known("gateways", lambda: gateways(person)),
        "reports": csp.reports.latest() if accounts.has_role(person, *OPERATORS) else [],
    }
    return render(request, "keyvault/system/system.html", page)


@gates.signed_in
@require_POST
def resume(request: HttpRequest, job_id: int) -> HttpResponse:
    """Give a held job fresh tries. Raises NotVisible to whoever may not."""
    person, now = sessions.person(request), timezone.now()
    if job_id not in {row.job.id for row in held(person) if row.may_resume}:
        raise NotVisible(f"job {job_id}")
    try:
        queue.resume(job_id=job_id, person=person, now=now)
    except queue.NotHeld as error:
        messages.warning(request, str(error))
    else:
        messages.success(request, "The job was taken up again; it starts within seconds.")
    return redirect("system")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key in the form that verifiers take, or "" while this process is sealed."""

    title: str
    value: str
    command: str


def signing_keys() -> list[SigningKey]:
    """Return what an auditor pins, once, at a place that this host cannot change."""
    return [
        SigningKey("Receipts", receipts.public_key(), "keyvault verify RECEIPT.json --trust KEY"),
        SigningKey("Ledger", audit.public_key(), "keyvault verify EXPORT.jsonl --trust KEY"),
    ]


def held(person: User) -> list[HeldRow]:
    """Return the held jobs whose requests a person asked for, decided, or sees by role.

    Operators see all jobs. Whoever sees a request because of its key or agent
    finds it there: to ask that of each row would take queries for each.
    """
    jobs = queue.held()
    served = approvals.by_ids([job.subject_id for job in jobs if _is_for_request(job)])
    reader = _Reader(
        person,
        reads_all=about_keys.role_may_look(person.pk),
        mends_all=accounts.has_role(person, MENDERS),
    )
    rows = (reader.row(job, served.get(job.subject_id)) for job in jobs)
    sees_all = accounts.has_role(person, *OPERATORS)
    return [row for row in rows if sees_all or row.label]


@dataclass(frozen=True, slots=True)
class _Reader:
    """What a person may see of held jobs by role, and which of them they may take up again."""

    person: User
    reads_all: bool
    mends_all: bool

    def row(self, job: queue.HeldJob, served: Request | None) -> HeldRow:
        """Return one row; its label is empty where the person may not see what the job serves."""
        if served is None or not (self.reads_all or approvals.took_part(self.person, served)):
            return HeldRow(job, "", "", self.mends_all)
        is_own = served.requester_id == self.person.pk
        href = reverse("request", args=[served.pk])
        return HeldRow(job, str(served), href, self.mends_all or is_own)


def _is_for_request(job: queue.HeldJob) -> bool:
    return job.kind.startswith("request.")


def gateways(person: User) -> Sequence[Gateway]:
    """Return the gateways, whose hosts are the business of those who run them."""
    return invalidation.gateways() if accounts.has_role(person, *OPERATORS) else ()


def blocks(now: datetime) -> list[Block]:
    """Return the cards of the page; each stands for itself when it cannot be read."""
    readers = (("Ledger", lambda: ledger(now)), ("Work", lambda: work(now)), ("Vault", vault))
    return [
        known(title, read) or Block(title.lower(), title, trust.Line("", title, "unknown"), [])
        for title, read in readers
    ]


def ledger(now: datetime) -> Block:
    """Return what guards the ledger, how far it is signed, and when it was last verified."""
    found = audit.trust(now)
    checkpoint = f"no. {found.checkpoint}, {parts.number(found.checkpoint_size)} events"
    return Block(
        "ledger",
        "Ledger",
        trust.ledger(now),
        [
            ("Events", parts.number(found.size)),
            ("Not yet placed", f"{parts.number(found.waiting)}, oldest {found.lag_s} s"),
            ("Last checkpoint", checkpoint if found.checkpoint_at else "none yet"),
            ("Last verified", found.verified_at or "never"),
            ("Protected by", found.protection.value),
        ],
        found.sentence,
    )


def work(now: datetime) -> Block:
    """Return what is due, what is late and what is held."""
    oldest = queue.oldest_due_at()
    return Block(
        "work",
        "Work",
        trust.work(now),
        [
            ("Oldest due job", oldest or "nothing waits"),
            ("Held for a person", len(queue.held())),
        ],
        "A job that nobody takes within a minute means that no worker runs.",
    )


def vault() -> Block:
    """Return whether secrets can be opened, and with which key-encryption key."""
    state = seals.seal_state()
    return Block(
        "vault",
        "Vault",
        trust.vault(),
        [
            ("State", state.sentence),
            ("Key-encryption key", parts.short(state.kek_id) or "not available"),
        ],
        "The key-encryption key lives outside the database.",
    )
