"""What every provider must do, said as tests. Each one names a promise of the protocol."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import replace

import pytest

from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Conflict,
    Issued,
    NotFound,
    ProviderError,
    RemoteKey,
    Shape,
    Suspends,
    Transient,
    Verdict,
)
from keyvault.providers.testing.bench import (
    Bench,
    is_listed,
    listed,
    make,
    prepare,
    recover,
    seconds_since,
)

DEADLINE_S = 3.0
SLACK_S = 1.5
MANY = 3


class ProviderConformance:
    """Inherit, give a `bench` fixture, run."""

    def test_create_gives_a_working_credential(self, bench: Bench) -> None:
        """It works, it is listed, and it is what its attempt made."""
        made = make(bench)
        assert verdict(bench, made.issued) is Verdict.VALID
        assert is_listed(bench, made.issued)
        found = bench.provider.find(bench.call(), made.attempt)
        assert [key.remote_id for key in found] == [made.issued.remote_id]

    def test_revoke_ends_exactly_that_credential(self, bench: Bench) -> None:
        """Nothing is left to list or to find."""
        made = make(bench)
        revoke(bench, made.issued)
        assert verdict(bench, made.issued) is Verdict.INVALID
        assert not is_listed(bench, made.issued)
        assert bench.provider.find(bench.call(), made.attempt) == []

    def test_two_credentials_live_side_by_side(self, bench: Bench) -> None:
        """Rotation needs an overlap; ending the old one leaves the new one alone."""
        if shape(bench) not in {Shape.MULTI, Shape.SLOTS}:
            pytest.skip("this shape has no overlap")
        old = make(bench).issued
        new = make(bench, old).issued
        assert verdict(bench, old) is verdict(bench, new) is Verdict.VALID
        revoke(bench, old)
        assert verdict(bench, old) is Verdict.INVALID
        assert verdict(bench, new) is Verdict.VALID

    def test_a_revoked_id_never_comes_to_mean_another_credential(self, bench: Bench) -> None:
        """Revoking an old version again must not end the one that took its place."""
        if shape(bench) not in {Shape.MULTI, Shape.SLOTS}:
            pytest.skip("this shape has no overlap")
        first = make(bench).issued
        second = make(bench, first).issued
        revoke(bench, first)
        third = make(bench, second).issued
        revoke(bench, first)
        assert verdict(bench, third) is Verdict.VALID
        assert first.remote_id not in listed(bench)

    def test_an_equal_attempt_creates_once(self, bench: Bench) -> None:
        """A replay after success gives the same credential, not a second one."""
        made = make(bench)
        again = recover(bench, made.attempt)
        assert verdict(bench, again.issued) is Verdict.VALID
        assert count(bench) == 1

    def test_an_attempt_survives_storage(self, bench: Bench) -> None:
        """Its JSON and its sealed material are all that a restarted worker has."""
        attempt = prepare(bench)
        stored = json.loads(json.dumps(attempt.to_json()))
        issued = bench.provider.create(
            bench.call(), Attempt.from_json(stored, dict(attempt.material))
        )
        kept = Issued.from_json(json.loads(json.dumps(issued.to_json())), dict(issued.material))
        assert verdict(bench, kept) is Verdict.VALID
        assert RemoteKey.from_json(kept.key().to_json()) == kept.key()

    def test_no_public_part_holds_a_secret(self, bench: Bench) -> None:
        """What is stored in clear, listed or printed shows no material."""
        made = make(bench)
        stored = str([made.attempt.to_json(), made.issued.to_json(), listed(bench)])
        printed = repr([made, bench.provider.check(bench.call()), bench.call()])
        text = (stored + printed).encode()
        for secret in secrets_of(bench, made.attempt, made.issued):
            assert secret not in text

    def test_a_lost_request_changes_nothing(self, bench: Bench) -> None:
        """It may be called ambiguous, never found, and the way on gives one credential."""
        attempt = prepare(bench)
        with bench.lose_request(), pytest.raises((Transient, Ambiguous)):
            bench.provider.create(bench.call(), attempt)
        assert bench.struck()
        assert bench.provider.find(bench.call(), attempt) == []
        assert verdict(bench, recover(bench, attempt).issued) is Verdict.VALID
        assert count(bench) == 1

    def test_a_lost_answer_is_ambiguous_and_leaves_one_credential(self, bench: Bench) -> None:
        """R56: the server did it and nobody heard; afterwards there is exactly one."""
        attempt = prepare(bench)
        with bench.lose_answer(), pytest.raises(Ambiguous):
            bench.provider.create(bench.call(), attempt)
        assert bench.struck()
        assert len(bench.provider.find(bench.call(), attempt)) == 1
        assert verdict(bench, recover(bench, attempt).issued) is Verdict.VALID
        assert count(bench) == 1

    def test_revoke_twice_is_fine(self, bench: Bench) -> None:
        """An absent credential counts as ended."""
        issued = make(bench).issued
        revoke(bench, issued)
        revoke(bench, issued)
        assert verdict(bench, issued) is Verdict.INVALID

    def test_revoking_an_unknown_id_touches_nothing(self, bench: Bench) -> None:
        """A made-up id, and one that only resembles a living one."""
        made = make(bench)
        stranger = replace(made.issued.key(), remote_id=f"{made.issued.remote_id}0", tag="kv-x-1")
        bench.provider.revoke(bench.call(), stranger, kill_sessions=True)
        bench.provider.revoke(bench.call(), RemoteKey("nobody/kv-none-1"), kill_sessions=True)
        assert verdict(bench, made.issued) is Verdict.VALID

    def test_a_revoke_that_lost_its_answer_can_be_repeated(self, bench: Bench) -> None:
        """The first may have worked; the second makes sure."""
        issued = make(bench).issued
        with bench.lose_answer(), pytest.raises((Transient, Ambiguous)):
            revoke(bench, issued)
        assert bench.struck()
        revoke(bench, issued)
        assert verdict(bench, issued) is Verdict.INVALID
        assert not is_listed(bench, issued)

    def test_an_outage_is_no_verdict(self, bench: Bench) -> None:
        """UNKNOWN while the endpoint is down; every other call is Transient."""
        made = make(bench)
        with bench.down():
            assert verdict(bench, made.issued) is Verdict.UNKNOWN
            for attempted in (
                lambda: prepare(bench),
                lambda: bench.provider.create(bench.call(), made.attempt),
                lambda: bench.provider.find(bench.call(), made.attempt),
                lambda: revoke(bench, made.issued),
                lambda: listed(bench),
            ):
                with pytest.raises(Transient):
                    attempted()
            assert bench.provider.check(bench.call())
        assert verdict(bench, made.issued) is Verdict.VALID
        assert bench.provider.check(bench.call()) == []

    def test_a_full_house_is_a_conflict(self, bench: Bench) -> None:
        """Beyond the quota `prepare` refuses; without one, more simply live side by side."""
        limit = bench.provider.capabilities(bench.call()).max_live
        living: list[Issued] = []
        for _ in range(limit or MANY):
            living.append(make(bench, living[-1] if living else None).issued)
        if limit is not None:
            with pytest.raises(Conflict):
                prepare(bench, living[-1])
        assert {verdict(bench, issued) for issued in living} == {Verdict.VALID}

    def test_a_late_worker_takes_no_slot(self, bench: Bench) -> None:
        """R57: a plan made before somebody else filled the slot is refused."""
        late = prepare(bench)
        made = make(bench)
        if shape(bench) is Shape.SLOTS:
            with pytest.raises(Conflict):
                bench.provider.create(bench.call(), late)
        else:
            assert verdict(bench, bench.provider.create(bench.call(), late)) is Verdict.VALID
        assert verdict(bench, made.issued) is Verdict.VALID

    def test_errors_repeat_nothing_of_what_the_server_says(self, bench: Bench) -> None:
        """A hostile or careless server sends our own secrets back."""
        made = make(bench)
        attempt = prepare(bench, made.issued)
        words = secrets_of(bench, attempt, made.issued)
        with bench.hostile(words), pytest.raises(ProviderError) as create:
            bench.provider.create(bench.call(), attempt)
        assert bench.struck()
        with bench.hostile(words), pytest.raises(ProviderError) as end:
            revoke(bench, made.issued)
        for failure in (create, end):
            text = "".join(traceback.format_exception(failure.value)).encode()
            assert not [word for word in words if word in text]

    def test_a_hanging_server_is_left_by_the_deadline(self, bench: Bench) -> None:
        """Each call ends in time; a create that hangs is not known to be undone."""
        made = make(bench)
        attempt = prepare(bench, made.issued)
        with bench.hang():
            started_at = time.monotonic()
            with pytest.raises((Transient, Ambiguous)):
                bench.provider.create(bench.call(timeout_s=DEADLINE_S), attempt)
            assert seconds_since(started_at) < DEADLINE_S + SLACK_S
            started_at = time.monotonic()
            found = bench.provider.validate(bench.call(timeout_s=DEADLINE_S), made.issued)
            assert found.verdict is Verdict.UNKNOWN
            assert seconds_since(started_at) < DEADLINE_S + SLACK_S

    def test_a_call_without_time_left_sends_nothing(self, bench: Bench) -> None:
        """The deadline may pass while a call waits for its turn."""
        attempt = prepare(bench)
        with pytest.raises(Transient):
            bench.provider.create(bench.call(timeout_s=0), attempt)
        assert bench.provider.find(bench.call(), attempt) == []

    def test_suspend_can_be_undone(self, bench: Bench) -> None:
        """A brown-out refuses new uses and forgets nothing."""
        provider = bench.provider
        if not isinstance(provider, Suspends):
            pytest.skip("this provider cannot suspend")
        issued = make(bench).issued
        provider.suspend(bench.call(), issued.key())
        assert verdict(bench, issued) is Verdict.INVALID
        provider.resume(bench.call(), issued.key())
        assert verdict(bench, issued) is Verdict.VALID
        revoke(bench, issued)
        with pytest.raises(NotFound):
            provider.resume(bench.call(), issued.key())

    def test_revoke_ends_sessions_only_when_told(self, bench: Bench) -> None:
        """Taking a credential away does not end what it has opened."""
        if not bench.provider.capabilities(bench.call()).can_kill_sessions:
            pytest.skip("this provider cannot end sessions")
        issued = make(bench).issued
        with bench.session(issued) as session:
            bench.provider.revoke(bench.call(), issued.key(), kill_sessions=False)
            assert session.works()
            bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
            assert not session.works()


def verdict(bench: Bench, issued: Issued) -> Verdict:
    """Try a credential and return the verdict alone."""
    return bench.provider.validate(bench.call(), issued).verdict


def revoke(bench: Bench, issued: Issued) -> None:
    """End a credential and its sessions."""
    bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)


def shape(bench: Bench) -> Shape:
    """Return the provider's shape."""
    return bench.provider.capabilities(bench.call()).shape


def count(bench: Bench) -> int:
    """Return how many enabled credentials exist."""
    return len([key for key in listed(bench).values() if key.is_enabled is not False])


def secrets_of(bench: Bench, attempt: Attempt, issued: Issued) -> list[bytes]:
    """Return every secret that plays a part in a test."""
    material = [*attempt.material.values(), *issued.material.values()]
    return [*bench.admin_secrets(), *(secret.reveal() for secret in material)]
