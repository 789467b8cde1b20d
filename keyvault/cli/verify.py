"""`keyvault verify FILE`: check a file that left the house, with nothing but itself and a key.

What the file is decides who checks it: an approval receipt or an audit export.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from keyvault.launcher.sentences import Stop

RECEIPT, LEDGER = "keyvault.cli.verify_receipt", "keyvault.cli.verify_ledger"
_HEAD_BYTES = 1_000_000


def run(argv: Sequence[str]) -> int:
    """Dispatch on the content of the first argument that names a file. Raises Stop."""
    files = [Path(word) for word in argv if not word.startswith("-") and Path(word).exists()]
    if not files:
        named = next((word for word in argv if not word.startswith("-")), None)
        if named is None:
            raise Stop("verify takes a file: a receipt or an audit export.", code=2)
        raise Stop(f"{named} does not exist.", code=2)
    code: int = import_module(_verifier(files[0])).main(list(argv))
    return code


def _verifier(path: Path) -> str:
    """Return the module that checks this file: a receipt is one small JSON object."""
    if path.is_dir() or path.stat().st_size > _HEAD_BYTES:
        return LEDGER
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        # JSON lines, CSV and checkpoints are not one JSON object.
        return LEDGER
    return RECEIPT if isinstance(found, dict) and "receipt" in found else LEDGER
