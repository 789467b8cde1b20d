"""The mark that says which version a value is, and that nobody has edited it since.

It holds a digest of what it marks. A digest lets a short value be guessed, so
that a stamp belongs only where whoever reads it may read the value as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping

from keyvault.destinations.base import Misconfigured

_STAMP = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63}) sha256:([0-9a-f]{64})")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def make(version_id: str, shown: Mapping[str, str]) -> str:
    """Return the stamp of a version over what the place shows. Raises Misconfigured."""
    if not _ID.fullmatch(version_id):
        raise Misconfigured("The version has an id that cannot be written into a mark.")
    return f"{version_id} sha256:{_digest(version_id, shown)}"


def owner(stamp: object, shown: Mapping[str, str]) -> str | None:
    """Return the id of the version that `stamp` marks; None where it is none or does not fit."""
    found = _STAMP.fullmatch(stamp) if isinstance(stamp, str) else None
    if found is None or found[2] != _digest(found[1], shown):
        return None
    return found[1]


def _digest(version_id: str, shown: Mapping[str, str]) -> str:
    marked = json.dumps([version_id, sorted(shown.items())]).encode()
    return hashlib.sha256(marked).hexdigest()
