"""The public conformance suite for destination plug-ins.

Subclass `DestinationConformance` in a pytest module, give it a `bench` fixture
that returns a new `Bench`, and run it against a real place. `FaultProxy`
brings the faults for anything that speaks over TCP.
"""

from __future__ import annotations

from keyvault.destinations.testing.bench import Bench, make_version, put_live, secret_of
from keyvault.destinations.testing.suite import DestinationConformance
from keyvault.plugins.faults import Fault, FaultProxy

__all__ = [
    "Bench",
    "DestinationConformance",
    "Fault",
    "FaultProxy",
    "make_version",
    "put_live",
    "secret_of",
]
