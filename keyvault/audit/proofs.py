"""The proof of one event as a small file that `verify_ledger.py` checks far from here."""

from __future__ import annotations

import base64
from typing import Any

from keyvault.audit import checkpoints
from keyvault.audit.selectors import Opened

FORMAT, VERSION = "keyvault-proof", 1


def bundle(opened: Opened) -> dict[str, Any]:
    """Return event, path and signed checkpoint; under 2 KB without the event itself.

    Raises LookupError while no checkpoint covers the event, and
    checkpoints.NoSigner when the process is sealed.
    """
    checkpoint = checkpoints.covering(opened.line.seq or 0)
    if checkpoint is None or not opened.line.seq:
        raise LookupError("no checkpoint covers this event yet")
    return {
        "format": FORMAT,
        "version": VERSION,
        "vkey": str(checkpoints.verifier()),
        "checkpoint": checkpoint.note,
        "seq": opened.line.seq,
        "path": [base64.b64encode(bytes.fromhex(node)).decode() for node in opened.proof.path],
        "event": opened.entry,
    }
