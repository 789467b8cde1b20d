"""A value that never shows itself."""

from __future__ import annotations

import hmac
from types import TracebackType
from typing import NoReturn, Self

HIDDEN = "[secret]"


class Spent(ValueError):
    """The bytes of this secret have been zeroed; nothing is left to reveal."""


class Secret:
    """Hold secret bytes so that printing, formatting, copying and pickling cannot leak them.

    `reveal()` is the only door, so that one search finds every place where a
    secret becomes plain bytes. The bytes live in one bytearray which `zero()`
    overwrites; what `reveal()` has returned is an ordinary object and stays in
    memory until Python reuses it. Usable as a context manager that zeroes.
    """

    __slots__ = ("_bytes", "_spent")
    __hash__ = None  # type: ignore[assignment]  # A set or dict of secrets would order by value.

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        """Take a copy of `value`; the caller may zero its own."""
        self._bytes = bytearray(value)
        self._spent = False

    @classmethod
    def of(cls, value: str | bytes) -> Self:
        """Return a secret over bytes, or over text in UTF-8."""
        return cls(value.encode() if isinstance(value, str) else value)

    @classmethod
    def adopt(cls, buffer: bytearray) -> Self:
        """Return a secret that owns `buffer` itself, so that no second copy exists."""
        secret = cls(b"")
        secret._bytes = buffer
        return secret

    def reveal(self) -> bytes:
        """Return the plain bytes. Raises Spent after `zero()`."""
        if self._spent:
            raise Spent("this secret has been zeroed")
        return bytes(self._bytes)

    def zero(self) -> None:
        """Overwrite the bytes. Safe to call twice."""
        self._bytes[:] = bytes(len(self._bytes))
        self._spent = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.zero()

    def __eq__(self, other: object) -> bool:
        # Constant time, and only against another secret: `secret == "text"` would invite a leak.
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.reveal(), other.reveal())

    def __repr__(self) -> str:
        return HIDDEN

    def __str__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __copy__(self) -> NoReturn:
        raise TypeError("a Secret cannot be copied")

    def __deepcopy__(self, memo: dict[int, object]) -> NoReturn:
        raise TypeError("a Secret cannot be copied")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")
