"""What a destination's author supplies so that the conformance suite can run."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import uuid4

from keyvault.crypto.secret import Secret
from keyvault.destinations.base import Context, Destination, Observed, Version


class Bench(Protocol):
    """One destination and one place on a real or faithful server, with faults on demand.

    A new bench is made for each test, with a place that no other test uses and
    that holds nothing. Its options lead the field `value` of a version to where
    a consumer reads it. A fault that cannot happen here skips: `pytest.skip`.
    """

    destination: Destination

    def call(self, *, timeout_s: float = 10.0) -> Context:
        """Return a context for one call."""

    def consumed(self) -> bytes | None:
        """Return the `value` that a consumer gets who reads now; None when there is none."""

    def state(self) -> object:
        """Return all that the place holds, past the plug-in, to be compared with `==`.

        With everything that a change would leave: values, marks, what is staged,
        the number of versions or writes. Without what mere reading moves.
        """

    def overwrite(self) -> None:
        """Make a value live as a person would who knows nothing of keyvault."""

    def settle(self) -> None:
        """Have consumers take up what is live, where `verify` asks for that."""

    def lose_request(self) -> AbstractContextManager[None]:
        """Break connections before a change takes effect."""

    def lose_answer(self) -> AbstractContextManager[None]:
        """Break connections after a change took effect and before its answer arrives."""

    def hang(self) -> AbstractContextManager[None]:
        """Accept connections and never answer."""

    def down(self) -> AbstractContextManager[None]:
        """Let the place be out of reach."""

    def hostile(self, words: Sequence[bytes]) -> AbstractContextManager[None]:
        """Answer changes with an error whose text repeats `words`."""

    def struck(self) -> int:
        """Return how often the last fault struck; 0 shows that a test proved nothing."""

    def admin_secrets(self) -> Sequence[bytes]:
        """Return the bytes of the admin credential."""


def make_version(number: int = 1) -> Version:
    """Return a new version with the secret field `value` and the public field `username`."""
    value = Secret.of(f'it\'s "{number}" $HOME #\\ {secrets.token_urlsafe(24)}')
    return Version(str(uuid4()), number, {"username": f"orders_{number}"}, {"value": value})


def put_live(bench: Bench, version: Version, expect: Version | None = None) -> Observed:
    """Stage and promote one version with no fault in the way."""
    bench.destination.stage(bench.call(), version)
    expected = expect.id if expect else None
    found = bench.destination.promote(bench.call(), version, expected)
    bench.settle()
    return found


def secret_of(version: Version) -> bytes:
    """Return the plain bytes of the field `value`."""
    return version.fields["value"].reveal()
