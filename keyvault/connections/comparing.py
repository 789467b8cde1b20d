"""Compare what exists at a provider with what we believe. Pure.

Three kinds of credential need somebody: one that we made and gave up (it is
ended), one that bears our label and that we do not know (a person decides:
another installation may own it), and one that we believe alive and that is
gone (whoever uses it fails).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyvault.providers.base import RemoteKey

TAG = re.compile(r"kv-[0-9a-f]{8,}-[0-9]+")


class Standing(Enum):
    """What our records say of a tag: its attempt is in flight, its credential in use, or over."""

    IN_FLIGHT = "in flight"
    IN_USE = "in use"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a look at a provider has shown; `missing` are our remote ids that are gone.

    `foreign` were made by nobody here: no record of ours speaks of them.
    """

    known: tuple[RemoteKey, ...]
    over: tuple[RemoteKey, ...]
    strange: tuple[RemoteKey, ...]
    missing: tuple[str, ...]
    foreign: tuple[RemoteKey, ...]

    @property
    def foreign_count(self) -> int:
        """How many there are that nobody here has made."""
        return len(self.foreign)


def compare(
    found: Iterable[RemoteKey], *, standings: Mapping[str, Standing], believed: Collection[str]
) -> Comparison:
    """Sort the credentials at a provider.

    `standings` is read after the listing: an attempt is always written before
    its call, so that no credential of ours can be listed without its record.
    `believed` are the remote ids that were in use before the listing began.
    """
    keys = [key for key in found if key.is_enabled is not False]
    known = [
        key for key in keys if _standing(key, standings) in (Standing.IN_FLIGHT, Standing.IN_USE)
    ]
    over = [key for key in keys if _standing(key, standings) is Standing.OVER]
    strange = [
        key for key in keys if key.tag and TAG.fullmatch(key.tag) and key.tag not in standings
    ]
    ours = {key.remote_id for key in (*known, *over, *strange)}
    alive = {key.remote_id for key in keys}
    return Comparison(
        known=tuple(known),
        over=tuple(over),
        strange=tuple(strange),
        missing=tuple(sorted(set(believed) - alive)),
        foreign=tuple(key for key in keys if key.remote_id not in ours.union(believed)),
    )


def _standing(key: RemoteKey, standings: Mapping[str, Standing]) -> Standing | None:
    return standings.get(key.tag) if key.tag else None
