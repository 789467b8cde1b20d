"""One read of billing-reader. No Django here: child processes use it."""

from __future__ import annotations

import time
from uuid import UUID

from keyvault.gateway.records import Door, Read

AGENT, KEY = UUID(int=1), UUID(int=2)


def read(request: str = "r", **changes: object) -> Read:
    """Return one read of billing-reader."""
    facts = {
        "at": time.time(),
        "agent_id": AGENT,
        "token": "abcdefgh",
        "key_id": KEY,
        "key": "billing-reader",
        "number": 3,
        "door": Door.KEY,
        "source": "192.0.2.7",
        "request": request,
    }
    return Read(**{**facts, **changes})
