"""A ledger to write into: keys that sign and mask, an empty directory for checkpoints."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.utils import timezone

from approvals.ports import Actor, Subject
from keyvault.audit import checkpoints, ledger, sequencer

ALICE = Actor("user", "11111111-1111-4111-8111-111111111111", "Alice Ames")
KEY = Subject("key", "22222222-2222-4222-8222-222222222222", "billing-reader")


@pytest.fixture(autouse=True)
def signer(keys, tmp_path, settings):
    """The installation's checkpoint key, over an empty sink."""
    settings.CHECKPOINT_DIR = tmp_path / "checkpoints"
    checkpoints.install(keys.checkpoint)
    yield keys.checkpoint
    checkpoints.install(None)


@pytest.fixture
def write():
    """Record events, each in its own transaction."""

    def write(count=1, *, event="request.commented", fields=None, **given):
        ids = []
        for number in range(count):
            with transaction.atomic():
                ids.append(
                    ledger.record(
                        event,
                        actor=given.get("actor", ALICE),
                        subject=given.get("subject", KEY),
                        now=given.get("now", timezone.now()),
                        fields={"comment": f"line {number}"} if fields is None else fields,
                        outcome=given.get("outcome", "ok"),
                        request_id=given.get("request_id", uuid.UUID(int=7)),
                    )
                )
        return ids

    return write


@pytest.fixture
def sealed(write):
    """A ledger of `count` events under one checkpoint; returns that checkpoint."""

    def sealed(count=10, *, now=None, is_new=True):
        if is_new:
            write(count)
        sequencer.drain()
        return checkpoints.run_once(now or timezone.now(), is_forced=True)

    return sealed


@pytest.fixture
def moment():
    return datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
