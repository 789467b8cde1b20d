"""What is ours in the data of a secret, and whether anybody has edited it. Pure.

Our fields stand beside those of others, and one more field holds their stamp:
the version, a digest of our fields, and their names.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from keyvault.destinations import mapping, stamps
from keyvault.destinations.base import JSON, Version

STAMP = "keyvault_version"
_STAMP_WORDS = 2


@dataclass(frozen=True, slots=True)
class Held:
    """Which version our fields hold. `fields` are the names that its stamp covers."""

    owner: str | None
    fields: frozenset[str] = frozenset()
    is_foreign: bool = False


def data_of(version: Version, names: Mapping[str, str]) -> dict[str, str]:
    """Return our fields of a version, with their stamp. Raises Misconfigured."""
    found = mapping.shown(version, names)
    stamp = " ".join([stamps.make(version.id, found), *sorted(found)])
    return {**found, STAMP: stamp}


def held(data: Mapping[str, JSON], wanted: Collection[str]) -> Held:
    """Return what is ours in `data`.

    Foreign is a stamp that does not fit, and any of the `wanted` fields that no stamp covers.
    """
    stamp = data.get(STAMP)
    if stamp is None:
        return Held(None, is_foreign=any(name in data for name in wanted))
    words = stamp.split(" ") if isinstance(stamp, str) else []
    fields = frozenset(words[_STAMP_WORDS:])
    ours = {name: data[name] for name in fields if isinstance(data.get(name), str)}
    owner = stamps.owner(" ".join(words[:_STAMP_WORDS]), ours) if len(ours) == len(fields) else None
    is_taken = any(name in data for name in set(wanted) - fields)
    return Held(owner, fields, is_foreign=owner is None or is_taken)


def change(held_now: Held, data: Mapping[str, str]) -> dict[str, str | None]:
    """Return the merge patch (RFC 7396) to `data`: fields of ours that are no longer wanted go."""
    return {**dict.fromkeys(held_now.fields), **data}


def removal(held_now: Held) -> dict[str, str | None]:
    """Return the merge patch (RFC 7396) that takes our fields away and leaves the others."""
    return dict.fromkeys([*held_now.fields, STAMP])
