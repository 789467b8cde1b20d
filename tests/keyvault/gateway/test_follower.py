"""How a gateway follows the database: nobody answers from what the console did not wait for.

The follower is driven step by step against PostgreSQL. A change happens while
its snapshot is held, between the look and the commit that confirms it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import psycopg
import pytest
from django.db import connections, transaction
from django.db.models import Q
from django.utils import timezone

from keyvault.agents import tokens
from keyvault.gateway import settings
from keyvault.gateway.clock import Clock, Lease
from keyvault.gateway.follower import Follower
from keyvault.gateway.rows import Link
from keyvault.invalidation import services as invalidation
from keyvault.invalidation.models import GatewayInstance
from keyvault.invalidation.services import Effect
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders, reading

pytestmark = pytest.mark.django_db(transaction=True)


_SPOIL = "UPDATE keyvault_gatewayinstance SET applied = '1:1:' WHERE id = %s"


@dataclass
class Held:
    """A follower whose next look is held while `change` happens, and what the console saw then."""

    stale_max_s: int = 0
    change: Callable[[], Effect] | None = None
    effects: list[Effect] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the follower."""
        url = reading.database_url()
        told = replace(settings.load(), database=url, listen=url, stale_max_s=self.stale_max_s)
        self.lease = Lease(self.stale_max_s)
        self.follower = Follower(told, Clock(), self.lease, fits=bool, changed=lambda _: None)
        for name in ("_load", "_apply"):
            setattr(self.follower, name, self._holding(getattr(self.follower, name)))

    async def link(self) -> Link:
        """Return a connection as the follower makes it."""
        link = await self.follower._connect()
        await self.follower._compare(link)
        return link

    async def current(self, link: Link) -> None:
        """Go round until answers may be given."""
        for _ in range(50):
            await self.follower._round(link)
            if self.lease.holds():
                return
        raise AssertionError("it never became current")

    def knows(self, deal: builders.Deal) -> bool:
        """Say whether an answer under the deal's token would be given now."""
        return self.lease.holds() and deal.issued.token.public_id in self.follower.cache.tokens

    def until_forgotten(self) -> None:
        """Wait until the console takes this gateway for gone."""
        row = GatewayInstance.objects.get(pk=self.follower._id)
        over = row.seen_at + invalidation.LEASE + timedelta(seconds=row.stale_max_s)
        builders.until(lambda: timezone.now() > over, 20)

    def _holding(self, step):
        async def held(*arguments: object) -> None:
            await step(*arguments)
            change, self.change = self.change, None
            if change is not None:
                self.effects.append(await asyncio.to_thread(_closing(change)))

        return held


def _closing(change: Callable[[], Effect]) -> Callable[[], Effect]:
    def run() -> Effect:
        try:
            return change()
        finally:
            connections.close_all()

    return run


def _ending(cast, deal) -> Callable[[], Effect]:
    """Return what ends a token and waits, as the console does, until it counts everywhere."""

    def end() -> Effect:
        with transaction.atomic():
            tokens.end(
                tokens_of=Q(pk=deal.issued.token.pk),
                cause="tests",
                actor=agents.TESTS,
                now=cast.now,
            )
            xact = invalidation.transaction_id()
        return invalidation.wait(xact, timeout_s=20)

    return end


def test_a_gateway_that_starts_does_not_answer_from_a_look_that_nobody_waited_for(cast):
    deal = builders.deal(cast)
    held = Held(change=_ending(cast, deal))

    async def start() -> None:
        async with await held.link() as link:
            is_due = await held.follower._round(link)
            assert held.effects[0].is_everywhere
            assert deal.issued.token.public_id in held.follower.cache.tokens
            assert not held.knows(deal)
            assert is_due
            await held.current(link)
            assert not held.knows(deal)

    asyncio.run(start())


def test_the_first_confirmation_announces_and_the_next_one_answers(cast):
    deal, held = builders.deal(cast), Held()

    async def start() -> None:
        async with await held.link() as link:
            assert await held.follower._round(link)
            assert not held.lease.holds()
            await held.current(link)
            assert held.knows(deal)

    asyncio.run(start())


@pytest.mark.parametrize("stale_max_s", [0, 1])
def test_a_gateway_that_reconnects_is_announced_anew(cast, stale_max_s):
    deal = builders.deal(cast)
    held = Held(stale_max_s)

    async def reconnect() -> None:
        async with await held.link() as link:
            await held.current(link)
        held.follower._lost(psycopg.OperationalError("gone"))
        await asyncio.to_thread(_closing(held.until_forgotten))
        held.change = _ending(cast, deal)
        async with await held.link() as link:
            await held.follower._round(link)
            assert held.effects[0].is_everywhere
            assert deal.issued.token.public_id in held.follower.cache.tokens
            assert not held.knows(deal)
            await held.current(link)
            assert not held.knows(deal)

    asyncio.run(reconnect())


def test_a_look_that_outlives_the_row_before_it_announces_only(cast):
    """The connection never broke: the look alone took longer than the row counted as live."""
    deal = builders.deal(cast)
    held = Held()

    async def dawdle() -> None:
        async with await held.link() as link:
            await held.current(link)
            # The next look is young enough for a lease of its own when the row before it is not.
            await asyncio.sleep(0.8)
            held.change = _ending(cast, deal)
            await held.follower._round(link)
            assert held.effects[0].waiting == 0
            assert not held.knows(deal)

    asyncio.run(dawdle())


def test_a_change_during_a_look_is_waited_for_while_the_gateway_is_live(cast):
    deal = builders.deal(cast)
    held = Held(stale_max_s=300)

    async def follow() -> None:
        async with await held.link() as link:
            await held.current(link)
            ended = asyncio.create_task(asyncio.to_thread(_closing(_ending(cast, deal))))
            while deal.issued.token.public_id in held.follower.cache.tokens:
                assert not ended.done()
                await held.follower._round(link)
            assert (await ended).is_everywhere

    asyncio.run(follow())


def test_a_confirmation_that_did_not_survive_means_a_load_anew(cast):
    """As after a crash of PostgreSQL, which may give the same transaction number twice."""
    deal, held = builders.deal(cast), Held()

    async def crash() -> None:
        async with await held.link() as link:
            await held.current(link)
            before = held.follower._applied
            await held.follower._compare(link)
            assert held.follower._applied == before
            await link.execute(_SPOIL, [held.follower._id])
            await held.follower._compare(link)
            assert held.follower._applied is None
            cache = held.follower.cache
            await held.current(link)
            assert held.follower.cache is not cache
            assert held.knows(deal)

    asyncio.run(crash())
