"""Sign the tree's head and carry it out of the database, where it can no longer be rewritten.

The row is committed first and exported next: a crash in between leaves a
checkpoint that the following pass exports. The other order could leave a
signed note outside that the database never knew, which looks like a fork.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

from keyvault.audit import tree
from keyvault.audit.merkle import InvalidProof
from keyvault.audit.models import Checkpoint, LedgerTree
from keyvault.audit.note import Head, Signer, Verifier, sign
from keyvault.audit.sink import Directory

LOCK = 0x6B76_0002  # "kv": the advisory lock of the checkpoint writer.


class NoSigner(Exception):
    """The checkpoint key is not loaded: the ledger grows, but nothing vouches for it."""


class Rewound(Exception):
    """The exported checkpoints know more than this database: it was restored or rewritten.

    Signing on would fork the log, so nothing is signed until a person has looked.
    """


class _Installed:
    signer: Signer | None = None


def install(signer: Signer | None) -> None:
    """Make `signer` this process's checkpoint key; None seals it."""
    _Installed.signer = signer


def signer() -> Signer:
    """Return the checkpoint key. Raises NoSigner."""
    if _Installed.signer is None:
        raise NoSigner("The checkpoint key is not loaded.")
    return _Installed.signer


def verifier() -> Verifier:
    """Return the public key of the log. Raises NoSigner."""
    return Verifier(tree.state().origin, signer().public)


def sink() -> Directory:
    """Return the directory of exported checkpoints. Raises NoSigner."""
    return Directory(settings.CHECKPOINT_DIR, verifier())


def run_once(now: datetime, *, is_forced: bool = False) -> Checkpoint | None:
    """Sign a checkpoint when one is due and export what has not been exported.

    Due: after CHECKPOINT_SECONDS, also when idle, after CHECKPOINT_EVENTS, or
    when forced. Returns the checkpoint it signed, or None. Raises NoSigner,
    Rewound, sink.SinkUnavailable, and merkle.InvalidProof when stored hashes
    no longer lead to the last checkpoint.
    """
    outside = sink()
    with transaction.atomic(durable=True):
        if not _locked(wait=is_forced):
            return None
        made = _sign_when_due(outside, now, is_forced=is_forced)
    publish(outside)
    return made


def latest() -> Checkpoint | None:
    """Return the newest checkpoint in the database."""
    return Checkpoint.objects.order_by("-number").first()


def covering(seq: int) -> Checkpoint | None:
    """Return the newest checkpoint whose tree holds event `seq`."""
    newest = latest()
    return newest if newest and newest.size >= seq else None


def head(checkpoint: Checkpoint) -> Head:
    """Return what a stored checkpoint states, read from its columns."""
    return Head(
        origin=tree.state().origin,
        size=checkpoint.size,
        root=bytes(checkpoint.root),
        number=checkpoint.number,
        at=checkpoint.at,
    )


def publish(outside: Directory) -> int:
    """Export every checkpoint that is newer than the latest outside; return how many."""
    exported = outside.latest()
    missing = Checkpoint.objects.filter(number__gt=exported.number if exported else 0)
    count = 0
    for checkpoint in missing.order_by("number").iterator(chunk_size=500):
        outside.put(head(checkpoint), checkpoint.note)
        count += 1
    return count


def _sign_when_due(outside: Directory, now: datetime, *, is_forced: bool) -> Checkpoint | None:
    state, last = tree.state(), latest()
    _refuse_fork(outside.latest(), last, state)
    if not (is_forced or _is_due(last, state.size, now)):
        return None
    new_root = tree.root(state.size)
    if new_root != tree.frontier(state).root():
        raise InvalidProof("the stored hashes disagree with the tree that the sequencer grew")
    if last:
        tree.check_growth(
            old=last.size, old_root=bytes(last.root), new=state.size, new_root=new_root
        )
    number = last.number + 1 if last else 1
    stated = Head(state.origin, state.size, new_root, number, now)
    return Checkpoint.objects.create(
        number=number,
        size=state.size,
        root=new_root,
        at=now,
        note=sign(stated.body(), name=state.origin, signer=signer()),
    )


def _refuse_fork(exported: Head | None, last: Checkpoint | None, state: LedgerTree) -> None:
    if exported is None:
        return
    known = last.number if last else 0
    if exported.number > known or exported.size > state.size:
        raise Rewound(
            f"Checkpoint {exported.number} outside the database covers {exported.size} events;"
            f" this database has checkpoint {known} and {state.size} events."
            " Restore a newer backup, or keep the old checkpoints and give this"
            " installation an empty KEYVAULT_CHECKPOINT_DIR."
        )


def _is_due(last: Checkpoint | None, size: int, now: datetime) -> bool:
    if last is None:
        return size > 0
    is_old = now - last.at >= timedelta(seconds=settings.CHECKPOINT_SECONDS)
    return is_old or size - last.size >= settings.CHECKPOINT_EVENTS


def _locked(*, wait: bool) -> bool:
    with connection.cursor() as cursor:
        if wait:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            return True
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])
