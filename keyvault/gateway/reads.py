"""Hand out keys: judge, write down, judge again if anything changed, open, answer.

The order is the promise. Nothing is opened before the read is on record, and
nothing leaves that a change has forbidden while the record was being written.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from keyvault.crypto.envelope import Refused
from keyvault.gateway import answers, entries, problems, rights
from keyvault.gateway.answers import Answer, Facts
from keyvault.gateway.clock import Clock, Lease
from keyvault.gateway.entries import Entry, Version
from keyvault.gateway.follower import Follower
from keyvault.gateway.limits import Rate, TooMany
from keyvault.gateway.opening import Opener, Sealed
from keyvault.gateway.records import Door, LogUnavailable, Read, ReadLog
from keyvault.gateway.rights import Bearer
from keyvault.inventory import naming

log = logging.getLogger(__name__)

CURRENT = "current"
_DIGITS = 9
_NAME = re.compile(naming.NAME_PATTERN)
# What a name that nobody has leads to, so that looking it up costs as much as any other.
_NOTHING = entries.pack(Entry(UUID(int=0), None, (), ()))


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the request itself says: the token's text, the source, our request id."""

    token: str
    source: str
    request: str


class Found(NamedTuple):
    """A version that the caller may read now."""

    name: str
    entry: Entry
    version: Version
    not_after: datetime | None

    def facts(self) -> Facts:
        """Return what an answer says beside the value."""
        return answers.facts(self.name, self.entry, self.version, self.not_after)


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
        facts = found[0].facts()
        if known and facts.etag in known:
            return answers.unchanged(facts)
        found = await self.record(caller, who, found, Door.KEY)
        with self.opened(found) as values:
            return answers.of_key(found[0].facts(), values[0])

    async def keys(self, caller: Caller, names: Sequence[str]) -> Answer:
        """Answer with several keys, or with none of them. Raises Problem."""
        who = self.bearer(caller)
        found = self.find(who, names, CURRENT)
        found = await self.record(caller, who, found, Door.BATCH)
        with self.opened(found) as values:
            facts = [one.facts() for one in found]
            return answers.of_keys(list(zip(facts, values, strict=True)))

    def bearer(self, caller: Caller) -> Bearer:
        """Return who asks. Raises Problem: stale, bad token, a person's token, too many."""
        who = self._bearer(caller)
        try:
            self._rate.count(who.agent.id)
        except TooMany:
            raise problems.too_many() from None
        return who

    def find(self, who: Bearer, names: Sequence[str], wanted: str) -> list[Found]:
        """Return a version of each key, or refuse all of them. Raises Problem.

        `wanted`: `current`, or the number of a current or previous version.
        """
        now = self._clock.moment()
        found = [self._one(who, name, wanted, now) for name in names]
        missing = [name for name, one in zip(names, found, strict=True) if one is None]
        if missing:
            refusal = problems.no_key(missing, self._console)
            refusal.principal = str(who.agent.id)
            raise refusal
        return [one for one in found if one is not None]

    async def record(
        self, caller: Caller, who: Bearer, found: list[Found], door: Door
    ) -> list[Found]:
        """Write the read down and return what may still be opened after that. Raises Problem."""
        cache, epoch = self._follower.cache, self._follower.cache.epoch
        at = self._clock.now()
        try:
            await self._readlog.append(
                tuple(
                    Read(
                        at=at,
                        agent_id=who.agent.id,
                        token=who.token.public_id,
                        key_id=one.entry.id,
                        key=one.name,
                        number=one.version.number,
                        door=door,
                        source=caller.source,
                        request=caller.request,
                    )
                    for one in found
                )
            )
        except LogUnavailable:
            raise problems.no_log() from None
        if self._follower.cache is cache and cache.epoch == epoch and self._lease.holds():
            return found
        return self._again(caller, found)

    @contextmanager
    def opened(self, found: Sequence[Found]) -> Iterator[list[dict[str, bytearray]]]:
        """Open the values of each version and zero them afterwards. Raises Problem."""
        values: list[dict[str, bytearray]] = []
        try:
            for one in found:
                values.append({})
                for field, blob in one.version.fields.items():
                    values[-1][field] = self._value(one, field, blob)
            yield values
        finally:
            for fields in values:
                for value in fields.values():
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

    def _again(self, caller: Caller, found: list[Found]) -> list[Found]:
        """Judge once more: something changed while the record was written, perhaps this right.

        The versions are those on record, also when another one is current by now.
        """
        who = self._bearer(caller)
        return [self.find(who, [one.name], str(one.version.number))[0] for one in found]

    def _one(self, who: Bearer, name: str, wanted: str, now: datetime) -> Found | None:
        """Return a version that may be read, or None. A key that is not there takes the same steps."""
        packed = self._follower.cache.keys.get(name, _NOTHING)
        entry = entries.unpack(packed)
        ends_at = rights.until(who, name, entry, now)
        if packed is _NOTHING and not _NAME.fullmatch(name):
            raise problems.bad_name()
        version = entry.current() if wanted == CURRENT else entry.numbered(int(wanted))
        if ends_at is None or version is None:
            return None
        return Found(name, entry, version, None if ends_at is rights.NEVER else ends_at)

    def _value(self, one: Found, field: str, blob: bytes) -> bytearray:
        try:
            return self._opener.value(one.entry.id, one.version.number, field, blob)
        except Sealed:
            raise problems.sealed() from None
        except Refused:
            # Without the traceback: it would add frames that hold key material.
            log.error(  # noqa: TRY400
                "version %d of %s does not open in its place", one.version.number, one.name
            )
            raise problems.broken() from None


def version_number(text: str) -> str:
    """Return `current` or the digits of a number. Raises Problem."""
    if text == CURRENT or (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        return text
    raise problems.bad_request("`version` is `current` or a whole number.")
