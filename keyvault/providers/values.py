"""What passes between keyvault and a provider: plain values, with the secret part set apart.

Classes that are stored have `to_json` and `from_json` for their public part.
Secret material never enters the JSON; the caller seals it on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from keyvault.plugins.values import JSON

if TYPE_CHECKING:
    from keyvault.crypto.secret import Secret

_T = TypeVar("_T")


class Shape(StrEnum):
    """How many credentials of one key can live side by side."""

    MULTI = "multi"
    SLOTS = "slots"
    REPLACE = "replace"
    EPHEMERAL = "ephemeral"
    MANUAL = "manual"


class Recovery(StrEnum):
    """How a lost answer to `create` is repaired.

    CLIENT: we chose the secret, so replay. NAMED: we chose the id, so replay
    and read. READBACK: the value can be read again. TAGGED: find the orphan by
    its tag, revoke it, create again. DIFF: the same by set difference against
    the ids seen before. NONE: only a person can tell.
    """

    CLIENT = "client"
    NAMED = "named"
    READBACK = "readback"
    TAGGED = "tagged"
    DIFF = "diff"
    NONE = "none"


class Verdict(StrEnum):
    """What trying a credential showed. UNKNOWN is never a reason to act."""

    VALID = "valid"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a provider can do for one Connection. Lags are seconds.

    With the shape MANUAL a person creates each credential. Unless
    `only_creation_by_hand` says that calls do the rest, a person also ends it, and
    no program can try or list it.
    """

    shape: Shape
    recovery: Recovery
    max_live: int | None = None
    can_suspend: bool = False
    reports_last_use: bool = False
    can_kill_sessions: bool = False
    settle_s: float = 0.0
    revoke_lag_s: float = 0.0
    only_creation_by_hand: bool = False

    @property
    def is_all_by_hand(self) -> bool:
        """Say whether no program can do anything."""
        return self.shape is Shape.MANUAL and not self.only_creation_by_hand


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at a create, committed by the caller before the call is made.

    `tag` names the try at the provider, `before` lists the ids seen there
    beforehand (DIFF), `facts` holds whatever else `create` must know. For
    CLIENT recovery `material` already holds the secret, so that an equal
    attempt creates an equal credential. `material` is sealed by the caller
    and is no part of the JSON.
    """

    op_id: str
    number: int
    tag: str
    slot: str | None = None
    before: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    material: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, JSON]:
        """Return the public part as plain JSON values."""
        return {
            "op_id": self.op_id,
            "number": self.number,
            "tag": self.tag,
            "slot": self.slot,
            "before": list(self.before),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON], material: Mapping[str, Secret]) -> Self:
        """Rebuild an attempt from its public part and the unsealed material."""
        return cls(
            op_id=data["op_id"],
            number=data["number"],
            tag=data["tag"],
            slot=data["slot"],
            before=tuple(data["before"]),
            facts=dict(data["facts"]),
            material=dict(material),
        )


@dataclass(frozen=True, slots=True)
class RemoteKey:
    """One credential as the provider lists it.

    `remote_id` is unique among all credentials that ever lived there, also
    where a slot is used again. `tag` is ours (`kv-<op>-<n>`) or None for a
    credential that keyvault did not make. `is_enabled` is None when unknown.
    """

    remote_id: str
    tag: str | None = None
    slot: str | None = None
    is_enabled: bool | None = None
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    hint: str = ""

    def to_json(self) -> dict[str, JSON]:
        """Return the key as plain JSON values."""
        return {
            "remote_id": self.remote_id,
            "tag": self.tag,
            "slot": self.slot,
            "is_enabled": self.is_enabled,
            "created_at": _time_out(self.created_at),
            "last_used_at": _time_out(self.last_used_at),
            "hint": self.hint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Self:
        """Rebuild what `to_json` returned."""
        return cls(
            remote_id=data["remote_id"],
            tag=data["tag"],
            slot=data["slot"],
            is_enabled=data["is_enabled"],
            created_at=_time_in(data["created_at"]),
            last_used_at=_time_in(data["last_used_at"]),
            hint=data["hint"],
        )


@dataclass(frozen=True, slots=True)
class Issued:
    """A created credential: its identity, what may be shown, and the sealed rest.

    `public` is not secret (user name, host, database); `material` is.
    """

    remote_id: str
    tag: str | None = None
    slot: str | None = None
    public: Mapping[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None
    material: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    def key(self) -> RemoteKey:
        """Return the identity alone, which is all that `revoke` needs."""
        return RemoteKey(remote_id=self.remote_id, tag=self.tag, slot=self.slot, is_enabled=True)

    def to_json(self) -> dict[str, JSON]:
        """Return the public part as plain JSON values."""
        return {
            "remote_id": self.remote_id,
            "tag": self.tag,
            "slot": self.slot,
            "public": dict(self.public),
            "expires_at": _time_out(self.expires_at),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, JSON], material: Mapping[str, Secret]) -> Self:
        """Rebuild a credential from its public part and the unsealed material."""
        return cls(
            remote_id=data["remote_id"],
            tag=data["tag"],
            slot=data["slot"],
            public=dict(data["public"]),
            expires_at=_time_in(data["expires_at"]),
            material=dict(material),
        )


@dataclass(frozen=True, slots=True)
class Validation:
    """What trying a credential showed; `principal` is who the provider says it is."""

    verdict: Verdict
    principal: str = ""
    detail: str = ""

    def to_json(self) -> dict[str, JSON]:
        """Return the validation as plain JSON values."""
        return {"verdict": self.verdict.value, "principal": self.principal, "detail": self.detail}

    @classmethod
    def from_json(cls, data: Mapping[str, JSON]) -> Self:
        """Rebuild what `to_json` returned."""
        return cls(Verdict(data["verdict"]), data["principal"], data["detail"])


@dataclass(frozen=True, slots=True)
class LastUse:
    """The provider's own word on use. Never "unused": `at` is None when it cannot tell."""

    at: datetime | None
    sessions: int | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[_T]):
    """One page of a listing; `cursor` is None on the last."""

    items: tuple[_T, ...]
    cursor: str | None = None


def tag_of(op_id: str, number: int) -> str:
    """Return the name under which one attempt is found again at the provider."""
    return f"kv-{op_id}-{number}"


def _time_out(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _time_in(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
