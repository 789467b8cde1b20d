"""Open sealed values for one answer, with the key-encryption key of this process.

Without a key that fits the database the gateway is sealed: it runs, says so,
and refuses every read. It seals nothing, so it counts no wraps.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, NoReturn
from uuid import UUID

from keyvault.crypto import digest, envelope, keyring, keys_dir, signing
from keyvault.crypto.envelope import Context
from keyvault.crypto.keyring import Keyring, NoKey

log = logging.getLogger(__name__)

_ACTIVE = "active"


class Sealed(Exception):
    """No usable key-encryption key. The message says the mend."""


class _NoWraps:
    """A budget for a process that only opens."""

    def spend(self, kek_id: bytes) -> NoReturn:
        """Refuse. Raises RuntimeError always: a gateway never seals."""
        raise RuntimeError(f"a gateway seals nothing, also not under {kek_id.hex()[:8]}")


class Opener:
    """The keys that open values and prove tokens, or the sentence that says why there are none."""

    __slots__ = ("_ring", "sentence")

    def __init__(self, kek: str, keys: Path) -> None:
        """Load what `KEYVAULT_KEK` and `KEYVAULT_KEYS_DIR` name; start sealed where it is missing."""
        self._ring: Keyring | None = None
        self.sentence = ""
        try:
            self._ring = keyring.load(kek, environ=os.environ, budget=_NoWraps())
            digest.install(keys_dir.load(keys).index)
        except (NoKey, keys_dir.NoKeysDir, signing.BadKey) as missing:
            self._seal(str(missing))

    def fits(self, keks: list[tuple[Any, ...]]) -> bool:
        """Compare the keys here with rows (id, state, check value) of the database; seal if they differ.

        Says whether that is settled: a database that nobody has sealed into
        yet knows no key, and is asked again.
        """
        for ident, state, check_value in keks:
            check = self._ring.check_of(bytes.fromhex(ident)) if self._ring else None
            if check is None or check.hex() != check_value:
                self._seal(
                    "A key-encryption key of this database is not here, or is another one. "
                    "Give the gateway the key that KEYVAULT_KEK of the console names."
                )
            elif state == _ACTIVE and self._ring and self._ring.active_id.hex() != ident:
                log.info("the database seals under a key that is not the newest one here")
        return bool(keks)

    def require(self) -> Keyring:
        """Return the keyring. Raises Sealed."""
        if self._ring is None:
            raise Sealed(self.sentence)
        return self._ring

    def value(self, key: UUID, number: int, field: str, blob: bytes) -> bytearray:
        """Return one plain value in a buffer that the caller zeroes. Raises Sealed, envelope.Refused."""
        context = Context("key", key, number, field)
        return envelope.unseal(blob, context=context, ring=self.require())

    def _seal(self, sentence: str) -> None:
        self._ring, self.sentence = None, sentence
        log.warning("sealed: %s", sentence)
