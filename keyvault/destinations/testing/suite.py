"""The whole conformance suite. Each test names a promise of the protocol."""

from __future__ import annotations

from keyvault.destinations.testing.effects import Effects
from keyvault.destinations.testing.failures import Failures


class DestinationConformance(Effects, Failures):
    """Inherit, give a `bench` fixture, run."""
