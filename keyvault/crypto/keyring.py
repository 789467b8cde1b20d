"""Key-encryption keys: where they come from, which one seals, and what happens without one.

A process that has no usable key is sealed: it runs, answers that it is sealed,
and refuses every read and write of a secret. It never makes a key by itself.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyvault.crypto.digest import derive
from keyvault.crypto.envelope import KEK_ID_BYTES, KEY_BYTES, NONCE_BYTES, Refused

_PREFIX = "kvk1:"
_ROOT_CONTEXT = b"keyvault root key v1"
_READABLE_BY_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class NoKey(Exception):
    """The vault is sealed: no usable key-encryption key. The message says the mend."""


class NoKek(Refused):
    """The value was sealed under a key-encryption key that this process does not hold."""


class Exhausted(NoKey):
    """The key-encryption key has wrapped as often as it may: what is sealed opens, nothing is added."""


class Kek(Protocol):
    """One key-encryption key, wherever it lives."""

    id: bytes
    check: bytes

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> bytes:
        """Return the data key sealed for `context`."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Return the data key. Raises Refused."""


class Budget(Protocol):
    """Counts the wraps of each key across every process."""

    def spend(self, kek_id: bytes) -> None:
        """Count one wrap. Raises Exhausted."""


class LocalKek:
    """A key-encryption key in this process's memory.

    The raw key is only an input to HKDF: the wrapping key, the public id and
    the check value are derived from it, so that the id names the key and a
    wrong key is known by its id alone.
    """

    def __init__(self, raw: bytes | bytearray) -> None:
        """Take a raw key of 32 bytes. Raises NoKey on another length."""
        if len(raw) != KEY_BYTES:
            raise NoKey(f"A key-encryption key has {KEY_BYTES} bytes; this one has {len(raw)}.")
        self.id = derive(bytes(raw), "keyvault kek id v1", KEK_ID_BYTES)
        self.check = derive(bytes(raw), "keyvault kek check v1", KEY_BYTES)
        self._cipher = AESGCM(derive(bytes(raw), "keyvault kek wrap v1", KEY_BYTES))

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> bytes:
        """Return nonce and sealed data key: 60 bytes."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, bytes(data_key), context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytearray:
        """Return the data key. Raises Refused."""
        data_key = bytearray(KEY_BYTES)
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            self._cipher.decrypt_into(nonce, sealed, context, data_key)
        except (InvalidTag, ValueError):
            raise Refused("a data key does not open here") from None
        return data_key


class Keyring:
    """The keys this process holds: the last one seals, every one opens."""

    def __init__(self, keks: Sequence[Kek], *, budget: Budget) -> None:
        """Hold `keks` in the order of their making. Raises NoKey when there is none."""
        if not keks:
            raise NoKey("There is no key-encryption key.")
        self._keks = {kek.id: kek for kek in keks}
        self._active = keks[-1]
        self._budget = budget

    @property
    def active_id(self) -> bytes:
        """Return the id of the key that seals."""
        return self._active.id

    @property
    def active_check(self) -> bytes:
        """Return the value that proves possession of the key that seals."""
        return self._active.check

    def ids(self) -> frozenset[bytes]:
        """Return the ids of all keys held."""
        return frozenset(self._keks)

    def check_of(self, kek_id: bytes) -> bytes | None:
        """Return the check value of a held key, or None."""
        kek = self._keks.get(kek_id)
        return kek.check if kek else None

    def wrap(self, data_key: bytes | bytearray, context: bytes) -> bytes:
        """Wrap under the active key and count it. Raises Exhausted."""
        self._budget.spend(self._active.id)
        return self._active.wrap(data_key, context)

    def unwrap(self, kek_id: bytes, wrapped: bytes, context: bytes) -> bytearray:
        """Unwrap with the key named. Raises NoKek, Refused."""
        kek = self._keks.get(kek_id)
        if kek is None:
            raise NoKek("a sealed value needs a key-encryption key that is not here")
        return kek.unwrap(wrapped, context)


def new_kek() -> str:
    """Return one new key in the form that files and variables hold."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def load(spec: str, *, environ: Mapping[str, str], budget: Budget) -> Keyring:
    """Return the keyring that `spec` names: `file:PATH` or `env:NAME`. Raises NoKey."""
    scheme, _, rest = spec.partition(":")
    if scheme == "file":
        return Keyring(_parse(_read(Path(rest)), f"The file {rest}"), budget=budget)
    if scheme == "env":
        found = environ.get(rest, "")
        return Keyring(_parse(found, f"The variable {rest}"), budget=budget)
    raise NoKey(f"KEYVAULT_KEK begins with {scheme!r}; it takes file:PATH or env:NAME.")


def new_root(remote: Kek) -> bytes:
    """Return a new root key wrapped by a remote key-encryption key, to store beside the data."""
    return remote.wrap(secrets.token_bytes(KEY_BYTES), _ROOT_CONTEXT)


def root_kek(remote: Kek, wrapped_root: bytes) -> LocalKek:
    """Unwrap the root key once, at start, so that no later read waits for a remote call.

    Raises Refused.
    """
    root = remote.unwrap(wrapped_root, _ROOT_CONTEXT)
    try:
        return LocalKek(root)
    finally:
        root[:] = bytes(len(root))


def _read(path: Path) -> str:
    try:
        if path.stat().st_mode & _READABLE_BY_OTHERS:
            raise NoKey(f"Others may read the key file {path}. Run: chmod 0400 {path}")
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise NoKey(f"The key file {path} cannot be read: {reason}.") from None


def _parse(text: str, source: str) -> list[LocalKek]:
    words = [word for word in text.split() if word]
    if not words:
        raise NoKey(f"{source} holds no key-encryption key.")
    return [LocalKek(_decode(word, source)) for word in words]


def _decode(word: str, source: str) -> bytes:
    if not word.startswith(_PREFIX):
        raise NoKey(f"{source} holds a word that is no key: each key begins with {_PREFIX}")
    try:
        return base64.b64decode(word[len(_PREFIX) :], validate=True)
    except binascii.Error:
        raise NoKey(f"{source} holds a key that is not base64.") from None


class _Installed:
    ring: Keyring | None = None
    reason = "No keyring has been loaded."
    guard: Callable[[Keyring], bool] | None = None
    proved = False


def install(ring: Keyring, *, guard: Callable[[Keyring], bool] | None = None) -> None:
    """Make `ring` this process's keyring.

    `guard` compares it with the database before its first use: it raises NoKey
    when the ring does not fit, and returns True once it need not ask again.
    """
    _Installed.ring, _Installed.guard, _Installed.proved = ring, guard, guard is None


def uninstall(reason: str) -> None:
    """Seal this process. `reason` is the sentence that every refusal repeats."""
    _Installed.ring, _Installed.reason = None, reason


def active() -> Keyring:
    """Return the keyring of this process. Raises NoKey when it is sealed."""
    if _Installed.ring is None:
        raise NoKey(_Installed.reason)
    if not _Installed.proved and _Installed.guard is not None:
        _Installed.proved = _Installed.guard(_Installed.ring)
    return _Installed.ring


def environment() -> Mapping[str, str]:
    """Return the process environment, the usual `environ` of `load`."""
    return os.environ
