"""What passes between keyvault and a destination: plain values, with the secret part set apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret


class Restart(StrEnum):
    """What a consumer needs in order to load a new value."""

    NOTHING = "nothing"
    CONSUMER = "consumer"


class State(StrEnum):
    """How far a version is at a destination. PENDING is no failure: ask again later."""

    OK = "ok"
    PENDING = "pending"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class DestinationCapabilities:
    """What a destination can do for one account.

    stages: a version can lie beside the live one. cas: the destination itself
    compares before it writes, so that a foreign edit in between is noticed.
    readback: the live value can be read again. consumer_lag_s: seconds until a
    consumer that reads from there has the new value. consumer_fetches: no value
    is written; the consumer is told, and fetches it as whoever has the key does.
    """

    stages: bool
    cas: bool
    readback: bool
    consumer_lag_s: float = 0.0
    needs_restart: Restart = Restart.NOTHING
    consumer_fetches: bool = False


@dataclass(frozen=True, slots=True)
class Version:
    """One version on its way: its identity, what may be shown, and the secret part.

    `id` is unique for ever and safe in names and annotations; `number` is what
    people read. `fields` holds the secret parts by the provider's names
    ("password", "value"), `public` the rest (user name, host).
    """

    id: str
    number: int
    public: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Secret] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Observed:
    """What a place holds. `live` is the id of our version there.

    `live` is None where nothing is or where it is not ours; `is_foreign` tells
    these apart. `staged` are ids that lie beside it. `etag` is the
    destination's own mark of the live state, where it has one.
    """

    live: str | None
    is_foreign: bool = False
    staged: tuple[str, ...] = ()
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The state of one version at a place; `reason` is a sentence without a secret."""

    state: State
    reason: str = ""
