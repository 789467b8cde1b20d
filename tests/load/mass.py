"""Inside a running demo: many keys of a real Valkey, one batch that rotates them, and what became of it.

python -m tests.load.mass make COUNT      (the keys, with their first versions)
python -m tests.load.mass rotate          (asks for all of them; prints the batch)
python -m tests.load.mass follow BATCH    (one line of JSON for each look, until it is over)
python -m tests.load.mass judge BATCH     (what is true of the keys and of the server)
"""

# ruff: noqa: E402 - the models can be imported once Django is set up.

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from uuid import UUID

import django

django.setup()

from django.db import connection, connections
from django.utils import timezone

from approvals.models import Job
from keyvault.accounts.models import User
from keyvault.actions import rotate_keys
from keyvault.inventory.models import Key
from keyvault.inventory.selectors import Filters
from keyvault.rotation import progress
from keyvault.rotation.models import Rotation, RotationBatch
from keyvault.vault import selectors as versions
from tests.load import rotating

PREFIX = "mass"
LOOK_S = 0.25
# At the provider at once while the keys are made; the server answers within a millisecond.
HANDS = 4


def make(count: int) -> None:
    """Make the keys; they are alice's, and nobody uses them."""
    now = timezone.now()
    slug, options = rotating.KEYS["rotated-user"]

    def one(number: int) -> None:
        try:
            rotating.issued(f"{PREFIX}-{number:04}", slug, options, now)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(HANDS) as hands:
        list(hands.map(one, range(count)))
    say({"made": Key.objects.filter(name__startswith=PREFIX).count()})


def rotate() -> None:
    """Ask for all of them as alice does, and wait until a worker has written the batch down."""
    alice, now = User.objects.get(username="alice"), timezone.now()
    keys = rotate_keys.of_filters(alice, Filters(q=f"{PREFIX}-"), now=now)
    action = rotate_keys.plan(person=alice, keys=keys, reason="bench")
    rotate_keys.ask(person=alice, action=action, now=now)
    while not RotationBatch.objects.filter(pk=action.batch_id).exists():
        time.sleep(0.1)
    say({"batch": str(action.batch_id), "keys": len(action.key_ids)})


def follow(batch_id: UUID) -> None:
    """Say at each look what the page would, and how many jobs wait for a worker."""
    while True:
        figures = progress.figures(batch_id)
        waits = Job.objects.filter(state=Job.State.READY, due_at__lte=timezone.now()).count()
        full = [one.is_full for one in progress.limits(batch_id)]
        told = asdict(figures) | {"total": figures.total, "open": figures.open}
        say(told | {"jobs_wait": waits, "is_full": any(full), "at": time.monotonic()})
        connection.close()
        if figures.is_over:
            return
        time.sleep(LOOK_S)


def judge(batch_id: UUID) -> None:
    """Say how the rotations ended, how often each key was rotated, and which versions live."""
    rows = Rotation.objects.filter(batch_key__batch=batch_id)
    keys = Key.objects.filter(name__startswith=f"{PREFIX}-")
    often = Counter(Rotation.objects.filter(key__in=keys).values_list("key", flat=True))
    lives = Counter(
        tuple(version.number for version in versions.live(key_id))
        for key_id in keys.values_list("pk", flat=True)
    )
    said = {
        "states": dict(Counter(rows.values_list("state", flat=True))),
        "times_rotated": dict(Counter(often.values())),
        "live_versions": {str(list(numbers)): count for numbers, count in lives.items()},
    }
    say(said)


def say(told: object) -> None:
    """Print one line at once."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", count]:
            make(int(count))
        case ["rotate"]:
            rotate()
        case ["follow", batch]:
            follow(UUID(batch))
        case ["judge", batch]:
            judge(UUID(batch))
