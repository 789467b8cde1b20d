"""The one way out: decide which address may be reached, then reach exactly that one.

A Connection, a webhook or a sink names a host. The guard resolves it once,
judges every address of the answer and connects to a judged address, never to
the name again, so that a second answer (DNS rebinding) changes nothing.
Public addresses are open; loopback and private ones only where the approved
allow-list names them; metadata services and link-local never. Over HTTP there
are no redirects, 5 seconds for all and 1 MB; https unless the list says `http://`.
"""

from __future__ import annotations

from keyvault.outbound.addresses import Allowance, Refused, canonical, judge
from keyvault.outbound.guard import TIMEOUT_S, Guard, Unreachable, system_resolver
from keyvault.outbound.https import MAX_BYTES, Answer, Lost, fetch

__all__ = [
    "MAX_BYTES",
    "TIMEOUT_S",
    "Allowance",
    "Answer",
    "Guard",
    "Lost",
    "Refused",
    "Unreachable",
    "canonical",
    "fetch",
    "judge",
    "system_resolver",
]
