"""Hand out keys: judge, write down, judge again if anything changed, open, answer.

The order is the promise. Nothing is opened before the read is on record, and
nothing leaves that a change has forbidden while the record was being written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from keyvault.crypto.envelope import Refused
from keyvault.gateway import answers, entries, problems, rights
from keyvault.gateway.answers import Answer, Facts
from keyvault.gateway.clock import Clock, Lease
from keyvault.gateway.entries import Entry, Version
from keyvault.gateway.follower import Follower
from keyvault.gateway.limits import Rate, TooMany
from keyvault.gateway.opening import Opener, Sealed
from keyvault.gateway.problems import Problem
from keyvault.gateway.records import Door, LogUnavailable, Read, ReadLog
from keyvault.gateway.rights import Bearer
from keyvault.inventory import naming

log = logging.getLogger(__name__)

# Writes opened values into an answer.
Shape = Callable[[list[tuple[Facts, dict[str, bytearray]]]], Answer]

CURRENT, PENDING = "current", "pending"
_DIGITS = 9
_NAME = re.compile(naming.NAME_PATTERN)
# What a name that nobody has leads to, so that looking it up costs as much as any other.
_NOTHING = entries.pack(Entry(UUID(int=0), None, (), ()))


class Caller(msgspec.Struct, frozen=True, gc=False):
    """Who asks, as far as the request itself says: the token's text, the source, our request id."""

    token: str
    source: str
    request: str


class Found(msgspec.Struct, frozen=True, gc=False):
    """A version that the caller may read now, and what an answer says of it."""

    facts: Facts
    entry: Entry
    version: Version

    @property
    def is_pending(self) -> bool:
        """Whether it is the one that a rotation has laid ready."""
        return self.version is self.entry.pending


class Reads:
    """The read path of one gateway process."""

    def __init__(
        self,
        *,
        follower: Follower,
        clock: Clock,
        lease: Lease,
        opener: Opener,
        readlog: ReadLog,
        agent_rate: int,
        console: str,
    ) -> None:
        self._follower, self._clock, self._lease = follower, clock, lease
        self._opener, self._readlog = opener, readlog
        self._rate = Rate(agent_rate)
        self._console = console

    async def key(self, caller: Caller, name: str, wanted: str, *, known: str) -> Answer:
        """Answer with one key. `known`: the tags of the asker's copies. Raises Problem."""
        who = self.bearer(caller)
        found = self.find(who, [name], wanted)
        if known and found[0].facts.etag in known:
            return answers.unchanged(found[0].facts)
        door = Door.PENDING if wanted == PENDING else Door.KEY
        found = await self.record(caller, who, found, door)
        return self.hand_out(found, _as_one)

    async def keys(self, caller: Caller, names: Sequence[str]) -> Answer:
        """Answer with several keys, or with none of them. Raises Problem."""
        who = self.bearer(caller)
        found = await self.record(caller, who, self.find(who, names, CURRENT), Door.BATCH)
        return self.hand_out(found, answers.of_keys)

    def bearer(self, caller: Caller) -> Bearer:
        """Return who asks. Raises Problem: stale, bad token, a person's token, too many."""
        who = self._bearer(caller)
        try:
            self._rate.count(who.agent.holder)
        except TooMany:
            raise problems.too_many() from None
        return who

    def judge(self, caller: Caller, names: Sequence[str]) -> tuple[Bearer, list[Found]]:
        """Judge a request that stays open once more, without counting it anew. Raises Problem."""
        who = self._bearer(caller)
        return who, self.find(who, names, CURRENT)

    def find(self, who: Bearer, names: Sequence[str], wanted: str) -> list[Found]:
        """Return a version of each key, or refuse all of them. Raises Problem.

        `wanted`: `current`, the number of a current or previous version, or `pending`.
        """
        now = self._clock.moment()
        found, missing = [], []
        for name in names:
            one = self._one(who, name, wanted, now)
            if one is None:
                missing.append(name)
            else:
                found.append(one)
        if missing:
            raise self._no_key(who, missing)
        return found

    async def record(
        self, caller: Caller, who: Bearer, found: list[Found], door: Door
    ) -> list[Found]:
        """Write the read down and return what may still be opened after that. Raises Problem."""
        cache, epoch = self._follower.cache, self._follower.cache.epoch
        at = self._clock.now()
        reads = [_read(caller, who, one, at=at, door=door) for one in found]
        try:
            await self._readlog.append(tuple(reads))
        except LogUnavailable:
            raise problems.no_log() from None
        if self._follower.cache is cache and cache.epoch == epoch and self._lease.holds():
            return found
        return self._again(caller, found)

    def hand_out(self, found: Sequence[Found], shape: Shape) -> Answer:
        """Open the values of each version, let them be written out, and zero them. Raises Problem."""
        keys: list[tuple[Facts, dict[str, bytearray]]] = []
        try:
            for one in found:
                values: dict[str, bytearray] = {}
                keys.append((one.facts, values))
                for field, blob in one.version.fields.items():
                    values[field] = self._value(one, field, blob)
            return shape(keys)
        finally:
            for _, values in keys:
                for value in values.values():
                    value[:] = bytes(len(value))

    def _bearer(self, caller: Caller) -> Bearer:
        if not self._lease.holds():
            raise problems.stale()
        try:
            return rights.bearer(self._follower.cache, caller.token, self._clock.moment())
        except rights.BadToken:
            raise problems.bad_token(self._console) from None
        except rights.Person:
            raise problems.person(self._console) from None

    def _no_key(self, who: Bearer, names: list[str]) -> Problem:
        """Return the refusal of keys. No local variable of whoever raises it may hold it: a cycle."""
        refusal = problems.no_key(names, self._console, agent=who.agent.name)
        refusal.principal = str(who.agent.id)
        return refusal

    def _again(self, caller: Caller, found: list[Found]) -> list[Found]:
        """Judge once more: something changed while the record was written, perhaps this right.

        The versions are those on record, also when another one is current by now.
        """
        who = self._bearer(caller)
        return [self._same(who, one) for one in found]

    def _same(self, who: Bearer, one: Found) -> Found:
        """Return the version that is on record, if it may be read in that way still. Raises Problem."""
        name, number = one.facts.name, one.facts.number
        found = self.find(who, [name], PENDING if one.is_pending else str(number))[0]
        if found.facts.number != number:
            raise self._no_key(who, [name])
        return found

    def _one(self, who: Bearer, name: str, wanted: str, now: datetime) -> Found | None:
        """Return a version that may be read, or None. A key that is not there takes the same steps."""
        packed = self._follower.cache.keys.get(name, _NOTHING)
        entry = entries.unpack(packed)
        ends_at = rights.until(who, name, entry, now)
        if packed is _NOTHING and not _NAME.fullmatch(name):
            raise problems.bad_name()
        version = _version(entry, wanted, who)
        if ends_at is None or version is None:
            return None
        not_after = None if ends_at is rights.NEVER else ends_at
        return Found(answers.facts(name, entry, version, not_after), entry, version)

    def _value(self, one: Found, field: str, blob: bytes) -> bytearray:
        try:
            return self._opener.value(one.entry.id, one.version.number, field, blob)
        except Sealed:
            raise problems.sealed() from None
        except Refused:
            # Without the traceback: it would add frames that hold key material.
            log.error(  # noqa: TRY400
                "version %d of %s does not open in its place", one.facts.number, one.facts.name
            )
            self._readlog.deny("", "", f"misplaced {one.entry.id} {one.facts.number} {field}")
            raise problems.broken() from None


def _version(entry: Entry, wanted: str, who: Bearer) -> Version | None:
    if wanted == CURRENT:
        return entry.current()
    if wanted == PENDING:
        return entry.ready(who.agent.holder)
    return entry.numbered(int(wanted))


def _as_one(keys: list[tuple[Facts, dict[str, bytearray]]]) -> Answer:
    return answers.of_key(*keys[0])


def _read(caller: Caller, who: Bearer, one: Found, *, at: float, door: Door) -> Read:
    return Read(
        at=at,
        agent_id=who.agent.id,
        token=who.token.public_id,
        key_id=one.entry.id,
        key=one.facts.name,
        number=one.facts.number,
        door=door,
        source=caller.source,
        request=caller.request,
    )


def version_number(text: str) -> str:
    """Return `current` or the digits of a number. Raises Problem."""
    if text == CURRENT or (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        return text
    raise problems.bad_request("`version` is `current` or a whole number.")
