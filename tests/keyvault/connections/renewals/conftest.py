"""A Connection whose admin credential is renewed: asked for, tried as a worker would, replaced by hand."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.ports import Later
from keyvault.actions import renew_connection
from keyvault.connections import renewals, renewing, services
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.vault.rows import WORKER

PATIENCE_S = 30


@pytest.fixture
def fake(_registry):
    return fakes.install(fakes.Renews())


@pytest.fixture
def _policies(now):
    rules.DEFAULTS.put(now)


@pytest.fixture
def begin(where, now):
    def call():
        with transaction.atomic():
            return renewals.begin(
                connection_id=where.pk,
                request_id=uuid4(),
                started_by="Frank",
                actor=WORKER,
                now=now,
            )

    return call


@pytest.fixture
def ask(cast, where, now, _policies):
    return lambda: renew_connection.ask(
        person=cast.frank, slug="orders", reason="It is old.", now=now
    )


def run(renewal, now, claims=None):
    """Try once, as a worker would."""
    made = (claims or Claims(now, renewal.pk)).claim()
    made.kind = renewals.JOB
    renewing.run(renewal.pk, made)
    renewal.refresh_from_db()


def patiently(renewal, run):
    """Try as often as others have their turn first, as the queue does."""
    while True:
        try:
            renewing.run(renewal.pk, run)
        except Later:
            continue
        return


def by_hand(where, now, **more):
    """Let a person put another credential in place, as an approved change does."""
    proposal = uuid4()
    with transaction.atomic():
        mark = services.propose(
            proposal_id=proposal, credential={"password": "typed-by-hand"}, now=now
        )
        services.change(
            connection_id=where.pk,
            draft=Draft(slug="orders", title="Orders", provider="fake", config=where.config),
            fingerprint=mark,
            proposal_id=proposal,
            base_revision=Connection.objects.get().revision,
            request_id=uuid4(),
            actor=WORKER,
            now=now,
            **more,
        )
