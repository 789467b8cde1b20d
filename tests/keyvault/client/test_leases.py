"""Leases by both clients: taken, made to last, returned, also when the run fails."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from keyvault.client import Away, Client, NotGranted, Refused
from keyvault.client.blocking import Client as Blocking

LEASE = "0b8f5a52-6a43-4a3c-9d0e-6f6f0c6f7c11"
TAKE, ONE = ("POST", "/api/v1/leases"), f"/api/v1/leases/{LEASE}"
RENEW, RETURN = ("POST", f"{ONE}/renew"), ("DELETE", ONE)


def lease(*, minutes: int = 15, **more):
    now = datetime.now(UTC)
    return {
        "id": LEASE,
        "key": "shop-repository",
        "expires_at": (now + timedelta(minutes=minutes)).isoformat(),
        "lapses_at": (now + timedelta(hours=1)).isoformat(),
        "public": {"base_url": "https://api.github.com"},
        "fields": {"token": "ghs_canary"},
        **more,
    }


@pytest.fixture
def lends(house):
    """Let the house lend one key."""
    house.api[TAKE] = (201, lease())
    house.api[RENEW] = lambda _: (200, lease(minutes=40, fields=None))
    house.api[RETURN] = (200, lease(state="returned"))
    return house


def does(face, name, *arguments, **more):
    """Call a method of either client."""
    found = getattr(face.client, name)(*arguments, **more)
    return found if isinstance(face.client, Client) else face._run(found)


def test_a_lease_is_taken_renewed_and_returned(lends, connect):
    face = connect()

    taken = does(face, "take_lease", "shop-repository", ttl_s=600, scopes=["contents:read"])
    longer = does(face, "renew_lease", taken, ttl_s=1800)
    does(face, "return_lease", longer)

    assert taken.value.reveal() == "ghs_canary"
    assert taken.value.reveal("base_url") == "https://api.github.com"
    assert longer.expires_at > taken.expires_at
    assert longer.value.reveal() == "ghs_canary"
    assert lends.bodies == [
        {"key": "shop-repository", "ttl_seconds": 600, "scopes": ["contents:read"]},
        {"ttl_seconds": 1800},
    ]
    assert [asked for asked in lends.asked if "leases" in asked[1]] == [TAKE, RENEW, RETURN]


def test_printing_a_lease_shows_nothing_of_the_value(lends, connect):
    taken = does(connect(), "take_lease", "shop-repository")
    assert "ghs_canary" not in f"{taken} {taken!r}"


def test_the_block_returns_it_also_when_the_run_fails(lends, connect):
    face = connect()

    async def awaited():
        async with face.client.lease("shop-repository") as value:
            assert value.reveal("token") == "ghs_canary"
            raise RuntimeError("the run fails")

    def blocking():
        with face.client.lease("shop-repository") as value:
            assert value.reveal("token") == "ghs_canary"
            raise RuntimeError("the run fails")

    with pytest.raises(RuntimeError, match="the run fails"):
        blocking() if isinstance(face.client, Blocking) else face._run(awaited())
    assert lends.count(*RETURN) == 1
    assert not asyncio.iscoroutinefunction(Blocking.lease)


def test_a_return_that_fails_is_a_warning_and_no_failure_of_the_run(lends, connect):
    face = connect()
    lends.api[RETURN] = (503, {"detail": "Later."})
    done = []

    async def awaited():
        async with face.client.lease("shop-repository"):
            done.append("work")

    def blocking():
        with face.client.lease("shop-repository"):
            done.append("work")

    with pytest.warns(UserWarning, match="of shop-repository could not be returned, and ends by"):
        blocking() if isinstance(face.client, Blocking) else face._run(awaited())
    assert done == ["work"]


def test_what_the_server_refuses_says_what_it_means(house, connect):
    face = connect()
    with pytest.raises(NotGranted):
        does(face, "take_lease", "hidden-key")
    action = {"method": "POST", "href": "/api/v1/leases", "body": {"key": "shop-repository"}}
    house.api[TAKE] = (201, lease())
    house.api[RENEW] = (409, {"detail": "Take a new one.", "next_action": action})
    taken = does(face, "take_lease", "shop-repository")
    with pytest.raises(Refused, match="Take a new one") as refused:
        does(face, "renew_lease", taken)
    assert refused.value.next_action == action


@pytest.mark.parametrize("answer", [{}, lease(key="another-key"), lease(fields=None)])
def test_an_answer_without_the_value_is_none_of_ours(house, connect, answer):
    house.api[TAKE] = (201, answer)
    with pytest.raises(Away, match="something else"):
        does(connect(), "take_lease", "shop-repository")
