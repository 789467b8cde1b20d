"""Short forms of the calls that the conformance suite makes again and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier

import pytest

from keyvault.destinations.base import (
    Conflict,
    DestinationCapabilities,
    Observed,
    State,
    Transient,
    Version,
)
from keyvault.destinations.testing.bench import Bench, secret_of

DEADLINE_S = 3.0
SLACK_S = 1.5


def able(bench: Bench) -> DestinationCapabilities:
    """Return what the destination says it can do."""
    return bench.destination.capabilities(bench.call())


def observe(bench: Bench) -> Observed:
    """Return what the place holds by the destination's own account."""
    return bench.destination.observe(bench.call())


def verify(bench: Bench, version: Version) -> State:
    """Return how far a version is."""
    return bench.destination.verify(bench.call(), version).state


def hurried(bench: Bench, version: Version) -> State:
    """Return how far a version is, within the suite's deadline."""
    return bench.destination.verify(bench.call(timeout_s=DEADLINE_S), version).state


def promote(bench: Bench, version: Version, expect: Version | None = None) -> Observed:
    """Promote one version over another one, or over nothing."""
    return bench.destination.promote(bench.call(), version, expect.id if expect else None)


def race(
    bench: Bench, version: Version, expect: Version, *, start: Barrier, won: list[Version]
) -> None:
    """Promote as one of several at once; note the version in `won` when it got through."""
    start.wait()
    try:
        promote(bench, version, expect)
    except (Conflict, Transient):
        return
    won.append(version)


def in_time(call: Callable[[], State | Observed]) -> State | Observed:
    """Return what a call returns, or let its error through; either must come by the deadline."""
    started_at = time.monotonic()
    try:
        return call()
    finally:
        assert time.monotonic() - started_at < DEADLINE_S + SLACK_S


def needs_foreign(bench: Bench) -> None:
    """Skip where a foreign value cannot be told from ours."""
    if not (able(bench).readback or able(bench).cas):
        pytest.skip("this destination cannot be read")


def secrets_of(bench: Bench, *versions: Version) -> list[bytes]:
    """Return every secret that plays a part in a test."""
    return [*bench.admin_secrets(), *(secret_of(version) for version in versions)]


def traces_of(bench: Bench, *versions: Version) -> list[bytes]:
    """Return what betrays each of these secrets, however often it was quoted on its way."""
    return [secret.rpartition(b" ")[2] for secret in secrets_of(bench, *versions)]
