"""The public conformance suite for provider plug-ins.

Subclass `ProviderConformance` in a pytest module, give it a `bench` fixture
that returns a new `Bench`, and run it against a real server; `MintConformance`
is the one for providers of short-lived credentials, `AdminConformance` the further one
for those that renew the credential by which they work. `FaultProxy` brings the
faults for anything that speaks over TCP.
"""

from __future__ import annotations

from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.providers.testing.admins import AdminBench, AdminConformance
from keyvault.providers.testing.bench import Bench, Made, Session, is_listed, listed, make, recover
from keyvault.providers.testing.minting import MintConformance
from keyvault.providers.testing.suite import ProviderConformance

__all__ = [
    "AdminBench",
    "AdminConformance",
    "Bench",
    "Fault",
    "FaultProxy",
    "Made",
    "MintConformance",
    "ProviderConformance",
    "Session",
    "is_listed",
    "listed",
    "make",
    "recover",
]
