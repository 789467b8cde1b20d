"""Take secret values out of a stream of bytes, whatever the chunks it comes in. Pure.

A value is found as it is, in base64 (also inside a longer text, as in an HTTP
Basic header), percent-encoded, escaped for JSON and in hexadecimal. Bytes that
may be the beginning of one are kept back until the next ones decide; nothing
else waits, so lines leave when they are complete.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus

MASK = b"***"
# Shorter ones stand in every other word; masking them would shred the output and tell them.
SHORTEST = 4
_SHORTEST_PART = 8
_ESCAPE = re.compile("%[0-9A-F]{2}")


class Masker:
    """Mask one stream. Feed it chunks, end it with `end`."""

    def __init__(self, values: Iterable[str | bytes]) -> None:
        """Take the values that must not pass."""
        self._patterns: tuple[bytes, ...] = ()
        self._rest = b""
        # How many bytes of the rest belong to a mask that was written already.
        self._covered = 0
        self.also(values)

    def also(self, values: Iterable[str | bytes]) -> None:
        """Take further values; those before them stay masked."""
        found = set(self._patterns)
        for value in values:
            found.update(patterns(value if isinstance(value, bytes) else value.encode()))
        self._patterns = tuple(found)

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be shown now."""
        data = self._rest + chunk
        return self._emit(data, keep_from=len(data) - self._undecided(data))

    def end(self) -> bytes:
        """Return what was kept back; no more comes."""
        return self._emit(self._rest, keep_from=len(self._rest))

    def _emit(self, data: bytes, *, keep_from: int) -> bytes:
        spans = list(_merged(self._found(data)))
        out, at = [], 0
        for start, end in spans:
            if start >= keep_from:
                break
            out.append(data[at:start])
            if not (start == 0 and self._covered):
                out.append(MASK)
            at = end
        out.append(data[at:keep_from])
        # A mask that was begun covers the bytes kept back up to where it ends.
        begun = [end for start, end in spans if start < keep_from < end]
        if keep_from == 0 and self._covered:
            begun = [spans[0][1]]
        self._covered = begun[0] - keep_from if begun else 0
        self._rest = data[keep_from:]
        return b"".join(out)

    def _found(self, data: bytes) -> list[tuple[int, int]]:
        """Return every occurrence of every pattern, overlapping ones too."""
        spans = [(0, self._covered)] if self._covered else []
        for pattern in self._patterns:
            at = data.find(pattern)
            while at >= 0:
                spans.append((at, at + len(pattern)))
                at = data.find(pattern, at + 1)
        return sorted(spans)

    def _undecided(self, data: bytes) -> int:
        """Return the length of the longest end of the data that may be the start of a pattern."""
        longest = 0
        for pattern in self._patterns:
            for length in range(min(len(pattern) - 1, len(data)), longest, -1):
                if data.endswith(pattern[:length]):
                    longest = length
                    break
        return longest


def patterns(value: bytes) -> Iterator[bytes]:
    """Yield every form in which a value is looked for; nothing for one that is too short."""
    if len(value) < SHORTEST:
        return
    quoted = quote(value, safe="")
    yield value
    # A terminal ends lines with both.
    yield value.replace(b"\n", b"\r\n")
    yield value.hex().encode()
    yield from _base64(value)
    yield from (form.encode() for form in (quoted, quote_plus(value), _ESCAPE.sub(_lower, quoted)))
    with suppress(UnicodeDecodeError):
        text = value.decode()
        yield from (json.dumps(text, ensure_ascii=plain)[1:-1].encode() for plain in (True, False))
    # A program may indent the lines of a key that has several.
    yield from (line for line in value.splitlines() if len(line) >= _SHORTEST_PART)


def _base64(value: bytes) -> Iterator[bytes]:
    """Yield what is the same in every base64 text that holds the value, at each of three offsets."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for offset in range(3):
            text = encode(bytes(offset) + value)
            if not offset:
                yield text
            # Characters that bytes before or after the value also decide are left out.
            start = -(-offset * 4 // 3)
            end = (offset + len(value)) * 4 // 3
            if end - start >= SHORTEST:
                yield text[start:end]


def _lower(found: re.Match[str]) -> str:
    return found.group().lower()


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield spans in order, those that overlap as one."""
    current: tuple[int, int] | None = None
    for start, end in spans:
        if current is None or start >= current[1]:
            if current is not None:
                yield current
            current = (start, end)
        else:
            current = (current[0], max(current[1], end))
    if current is not None:
        yield current
