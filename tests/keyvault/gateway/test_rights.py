"""Who a token is, at the gateway: a refusal takes the same steps whatever is wrong (R29, R30)."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from keyvault.crypto import tokens
from keyvault.gateway import rights
from keyvault.gateway.cache import Agent, Cache, Token

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def texts(installation) -> tuple[Cache, dict[str, str]]:
    """Return a cache, and a good token beside texts that open nothing, by what is wrong."""
    cache, agent, found = Cache(), Agent(uuid4(), "refund-bot", b"holder"), {}
    cache.agents[agent.id] = agent
    for name, ends_at in (("good", NOW + timedelta(hours=1)), ("expired", NOW)):
        made = tokens.issue()
        found[name] = made.text.reveal().decode()
        cache.tokens[made.public_id] = Token(made.public_id, made.stored, agent.id, ends_at, None)
    good = found["good"]
    found["wrong secret"] = good[:-12] + good[-12:].swapcase()
    found["unknown id"] = tokens.issue().text.reveal().decode()
    found["nonsense"] = "nonsense"
    found["nothing"] = ""
    return cache, found


@contextmanager
def steps():
    """Collect the name of every function, ours or built in, that is called in the block."""
    seen: list[str] = []

    def note(frame, event, what) -> None:
        if event == "call":
            seen.append(frame.f_code.co_qualname)
        elif event == "c_call":
            seen.append(what.__qualname__)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(before)


def _refused(cache: Cache, text: str) -> list[str]:
    with pytest.raises(rights.BadToken), steps() as seen:
        rights.bearer(cache, text, NOW)
    return seen[: seen.index("BadToken")] if "BadToken" in seen else seen


def test_r29_r30_every_refusal_of_a_token_takes_the_same_steps(texts):
    cache, found = texts
    assert rights.bearer(cache, found.pop("good"), NOW).agent.name == "refund-bot"
    _refused(cache, "first")  # What is derived once is derived now.

    taken = {name: _refused(cache, text) for name, text in found.items()}

    first = taken["wrong secret"]
    assert "matches" in first
    assert "compare_digest" in first
    assert {name for name, seen in taken.items() if seen != first} == set()
