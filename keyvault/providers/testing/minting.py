"""What a provider of short-lived credentials must do, said as tests."""

from __future__ import annotations

import json
import time
import traceback
from typing import cast

import pytest

from keyvault.providers.base import (
    Ambiguous,
    Issued,
    Mints,
    Misconfigured,
    ProviderError,
    Shape,
    Transient,
    Verdict,
)
from keyvault.providers.testing.bench import Bench, seconds_since

DEADLINE_S = 3.0
SLACK_S = 1.5
TTL_S = 600


class MintConformance:
    """Inherit, give a `bench` fixture whose provider is EPHEMERAL and `Mints`, run."""

    def test_it_says_that_it_is_ephemeral(self, bench: Bench) -> None:
        """So that nobody keeps what it makes as a version."""
        assert isinstance(bench.provider, Mints)
        assert bench.provider.capabilities(bench.call()).shape is Shape.EPHEMERAL
        assert bench.provider.check(bench.call()) == []
        assert 0 < bench.provider.longest_s(bench.call()) <= bench.provider.life_s

    def test_no_run_holds_one_for_longer_than_it_lives(self, bench: Bench) -> None:
        """A longer life is refused, and what is minted ends by itself in time."""
        provider = cast("Mints", bench.provider)
        with pytest.raises(Misconfigured):
            provider.mint(bench.call(), "run-1", (), provider.life_s + 1)
        issued = provider.mint(bench.call(), "run-1", (), provider.longest_s(bench.call()))
        assert issued.expires_at is not None
        assert issued.expires_at.timestamp() <= time.time() + provider.life_s + SLACK_S

    def test_mint_gives_a_working_credential_that_ends_by_itself(self, bench: Bench) -> None:
        """It works, and says with an offset when it ends."""
        issued = mint(bench)
        assert verdict(bench, issued) is Verdict.VALID
        assert issued.expires_at is not None
        assert issued.expires_at.tzinfo is not None

    def test_end_ends_exactly_that_credential(self, bench: Bench) -> None:
        """Two runs have two credentials, with two ids; ending one twice leaves the other alone."""
        first, second = mint(bench), mint(bench)
        assert first.remote_id != second.remote_id
        end(bench, first)
        end(bench, first)
        assert verdict(bench, first) is Verdict.INVALID
        assert verdict(bench, second) is Verdict.VALID

    def test_a_credential_survives_storage(self, bench: Bench) -> None:
        """Its JSON and its sealed material are all that a restarted worker has."""
        issued = mint(bench)
        kept = Issued.from_json(json.loads(json.dumps(issued.to_json())), dict(issued.material))
        assert verdict(bench, kept) is Verdict.VALID
        end(bench, kept)
        assert verdict(bench, kept) is Verdict.INVALID

    def test_no_public_part_holds_a_secret(self, bench: Bench) -> None:
        """What is stored in clear or printed shows no material."""
        issued = mint(bench)
        text = str([issued.to_json(), issued, bench.call()]).encode()
        assert not [word for word in words_of(bench, issued) if word in text]

    def test_a_lost_request_or_answer_is_told_and_the_next_mint_works(self, bench: Bench) -> None:
        """A credential that nobody heard of ends by itself; the run gets another."""
        with bench.lose_request(), pytest.raises((Transient, Ambiguous)):
            mint(bench)
        assert bench.struck()
        with bench.lose_answer(), pytest.raises(Ambiguous):
            mint(bench)
        assert bench.struck()
        assert verdict(bench, mint(bench)) is Verdict.VALID

    def test_an_end_that_lost_its_answer_can_be_repeated(self, bench: Bench) -> None:
        """The first may have worked; the second makes sure."""
        issued = mint(bench)
        with bench.lose_answer(), pytest.raises((Transient, Ambiguous)):
            end(bench, issued)
        assert bench.struck()
        end(bench, issued)
        assert verdict(bench, issued) is Verdict.INVALID

    def test_an_outage_is_no_verdict(self, bench: Bench) -> None:
        """UNKNOWN while the endpoint is down; every other call is Transient."""
        issued = mint(bench)
        with bench.down():
            assert verdict(bench, issued) is Verdict.UNKNOWN
            with pytest.raises(Transient):
                mint(bench)
            with pytest.raises(Transient):
                end(bench, issued)
            assert bench.provider.check(bench.call())
        assert verdict(bench, issued) is Verdict.VALID

    def test_errors_repeat_nothing_of_what_the_server_says(self, bench: Bench) -> None:
        """A hostile or careless server sends our own secrets back."""
        issued = mint(bench)
        words = words_of(bench, issued)
        with bench.hostile(words), pytest.raises(ProviderError) as made:
            mint(bench)
        assert bench.struck()
        with bench.hostile(words), pytest.raises(ProviderError) as ended:
            end(bench, issued)
        for failure in (made, ended):
            text = "".join(traceback.format_exception(failure.value)).encode()
            assert not [word for word in words if word in text]

    def test_a_hanging_server_is_left_by_the_deadline(self, bench: Bench) -> None:
        """Each call ends in time; a mint that hangs is not known to be undone."""
        issued = mint(bench)
        with bench.hang():
            started_at = time.monotonic()
            with pytest.raises((Transient, Ambiguous)):
                mint(bench, timeout_s=DEADLINE_S)
            assert seconds_since(started_at) < DEADLINE_S + SLACK_S
            started_at = time.monotonic()
            found = bench.provider.validate(bench.call(timeout_s=DEADLINE_S), issued)
            assert found.verdict is Verdict.UNKNOWN
            assert seconds_since(started_at) < DEADLINE_S + SLACK_S

    def test_a_call_without_time_left_sends_nothing(self, bench: Bench) -> None:
        """The deadline may pass while a call waits for its turn."""
        with pytest.raises(Transient):
            mint(bench, timeout_s=0)


def mint(bench: Bench, *, timeout_s: float = 10.0) -> Issued:
    """Make a credential for one run with all rights of the key."""
    provider = cast("Mints", bench.provider)
    return provider.mint(bench.call(timeout_s=timeout_s), "run-1", (), TTL_S)


def end(bench: Bench, issued: Issued) -> None:
    """End a credential early."""
    cast("Mints", bench.provider).end(bench.call(), issued)


def verdict(bench: Bench, issued: Issued) -> Verdict:
    """Try a credential and return the verdict alone."""
    return bench.provider.validate(bench.call(), issued).verdict


def words_of(bench: Bench, issued: Issued) -> list[bytes]:
    """Return every secret that plays a part in a test."""
    return [*bench.admin_secrets(), *(secret.reveal() for secret in issued.material.values())]
