"""What a provider that renews its own admin credential must do, said as tests."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from typing import Protocol, cast
from uuid import uuid4

import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Context,
    ProviderError,
    Recovery,
    RenewsAdmin,
    Shape,
    Transient,
    Verdict,
)
from keyvault.providers.testing.bench import Bench, seconds_since

DEADLINE_S = 3.0
SLACK_S = 1.5
Material = Mapping[str, Secret]


class AdminBench(Bench, Protocol):
    """A bench whose admin account belongs to one test alone."""

    admin: Material

    def call_as(self, admin: Material, *, timeout_s: float = 10.0) -> Context:
        """Return a context for one call with this admin credential."""


class AdminConformance:
    """Inherit, give a `bench` fixture whose provider is `RenewsAdmin`, run."""

    def test_the_new_one_works_for_the_same_account(self, bench: AdminBench) -> None:
        """It may do what the old one may; with MULTI both work, with REPLACE the new one alone."""
        before = provider(bench).validate_admin(bench.call())
        new = renew(bench)
        after = provider(bench).validate_admin(bench.call_as(new))
        assert before.verdict is after.verdict is Verdict.VALID
        assert before.principal == after.principal != ""
        assert bench.provider.check(bench.call_as(new)) == []
        has_overlap = provider(bench).admin_capabilities(bench.call()).shape is Shape.MULTI
        assert verdict(bench, bench.admin) is (Verdict.VALID if has_overlap else Verdict.INVALID)

    def test_revoke_ends_the_old_one_alone(self, bench: AdminBench) -> None:
        """And does nothing the second time."""
        new = renew(bench)
        for _ in range(2):
            provider(bench).revoke_admin(bench.call_as(new), bench.admin)
            assert verdict(bench, bench.admin) is Verdict.INVALID
            assert verdict(bench, new) is Verdict.VALID

    def test_one_renewal_follows_another(self, bench: AdminBench) -> None:
        """What has been renewed once can be renewed again, by itself."""
        first = renew(bench)
        provider(bench).revoke_admin(bench.call_as(first), bench.admin)
        second = provider(bench).create_admin(bench.call_as(first), plan(bench, first))
        provider(bench).revoke_admin(bench.call_as(second), first)
        assert verdict(bench, second) is Verdict.VALID
        assert verdict(bench, first) is verdict(bench, bench.admin) is Verdict.INVALID

    def test_a_plan_changes_nothing(self, bench: AdminBench) -> None:
        """A value that was only chosen is refused, or the verdict on it would prove nothing."""
        attempt = plan(bench)
        assert verdict(bench, bench.admin) is Verdict.VALID
        if is_replayed(bench):
            assert verdict(bench, attempt.material) is Verdict.INVALID

    def test_an_equal_attempt_creates_once(self, bench: AdminBench) -> None:
        """A replay after success gives the same credential (CLIENT, NAMED)."""
        if not is_replayed(bench):
            pytest.skip("this provider chooses the value itself")
        attempt = plan(bench)
        first = provider(bench).create_admin(bench.call(), attempt)
        with_what_works = bench.admin if verdict(bench, bench.admin) is Verdict.VALID else first
        again = provider(bench).create_admin(bench.call_as(with_what_works), attempt)
        assert words_of(again) == words_of(first)
        assert verdict(bench, again) is Verdict.VALID

    def test_an_attempt_survives_storage(self, bench: AdminBench) -> None:
        """Its JSON and its sealed material are all that a restarted worker has."""
        attempt = plan(bench)
        stored = json.loads(json.dumps(attempt.to_json()))
        kept = Attempt.from_json(stored, dict(attempt.material))
        assert verdict(bench, provider(bench).create_admin(bench.call(), kept)) is Verdict.VALID

    def test_no_public_part_holds_a_secret(self, bench: AdminBench) -> None:
        """What is stored in clear or printed shows no material."""
        attempt = plan(bench)
        new = provider(bench).create_admin(bench.call(), attempt)
        found = provider(bench).validate_admin(bench.call_as(new))
        text = str([attempt.to_json(), attempt, found, bench.call_as(new)]).encode()
        assert not [word for word in words_of(bench.admin, new) if word in text]

    def test_a_lost_request_leaves_the_old_one(self, bench: AdminBench) -> None:
        """It may be called ambiguous; the way on gives one that works."""
        attempt = plan(bench)
        with bench.lose_request(), pytest.raises((Transient, Ambiguous)):
            provider(bench).create_admin(bench.call(), attempt)
        assert bench.struck()
        assert verdict(bench, bench.admin) is Verdict.VALID
        finish(bench, recover(bench, attempt))

    def test_a_lost_answer_is_ambiguous_and_the_verdicts_tell(self, bench: AdminBench) -> None:
        """One of the two is taken, and the way on from there ends with the new one alone."""
        attempt = plan(bench)
        with bench.lose_answer(), pytest.raises(Ambiguous):
            provider(bench).create_admin(bench.call(), attempt)
        assert bench.struck()
        if is_replayed(bench):
            assert verdict(bench, attempt.material) is Verdict.VALID
        finish(bench, recover(bench, attempt))

    def test_withdrawing_touches_nothing_else(self, bench: AdminBench) -> None:
        """Of an attempt that was never called there is nothing to end."""
        attempt = plan(bench)
        provider(bench).withdraw_admin(bench.call(), attempt)
        assert verdict(bench, bench.admin) is Verdict.VALID
        finish(bench, provider(bench).create_admin(bench.call(), attempt))

    def test_a_revoke_that_lost_its_answer_can_be_repeated(self, bench: AdminBench) -> None:
        """The first may have worked; the second makes sure."""
        new = renew(bench)
        with bench.lose_answer(), pytest.raises((Transient, Ambiguous)):
            provider(bench).revoke_admin(bench.call_as(new), bench.admin)
        assert bench.struck()
        finish(bench, new)

    def test_an_outage_is_no_verdict(self, bench: AdminBench) -> None:
        """UNKNOWN while the endpoint is down; every other call is Transient."""
        attempt = plan(bench)
        with bench.down():
            assert verdict(bench, bench.admin) is Verdict.UNKNOWN
            for attempted in (
                lambda: plan(bench),
                lambda: provider(bench).create_admin(bench.call(), attempt),
                lambda: provider(bench).revoke_admin(bench.call(), attempt.material or bench.admin),
            ):
                with pytest.raises(Transient):
                    attempted()
        assert verdict(bench, bench.admin) is Verdict.VALID

    def test_errors_repeat_nothing_of_what_the_server_says(self, bench: AdminBench) -> None:
        """A hostile or careless server sends our own secrets back."""
        attempt = plan(bench)
        words = words_of(bench.admin, attempt.material)
        with bench.hostile(words), pytest.raises(ProviderError) as failure:
            provider(bench).create_admin(bench.call(), attempt)
        assert bench.struck()
        text = "".join(traceback.format_exception(failure.value)).encode()
        assert not [word for word in words if word in text]

    def test_a_hanging_server_is_left_by_the_deadline(self, bench: AdminBench) -> None:
        """Each call ends in time, and gives no verdict."""
        attempt = plan(bench)
        with bench.hang():
            started_at = time.monotonic()
            call = bench.call_as(bench.admin, timeout_s=DEADLINE_S)
            with pytest.raises((Transient, Ambiguous)):
                provider(bench).create_admin(call, attempt)
            assert seconds_since(started_at) < DEADLINE_S + SLACK_S
            call = bench.call_as(bench.admin, timeout_s=DEADLINE_S)
            assert provider(bench).validate_admin(call).verdict is Verdict.UNKNOWN
            assert seconds_since(started_at) < 2 * (DEADLINE_S + SLACK_S)

    def test_a_call_without_time_left_changes_nothing(self, bench: AdminBench) -> None:
        """The deadline may pass while a call waits for its turn."""
        attempt = plan(bench)
        with pytest.raises(Transient):
            provider(bench).create_admin(bench.call_as(bench.admin, timeout_s=0), attempt)
        assert verdict(bench, bench.admin) is Verdict.VALID


def provider(bench: AdminBench) -> RenewsAdmin:
    """Return the provider as one that renews its admin credential. Fails where it cannot."""
    assert isinstance(bench.provider, RenewsAdmin)
    return cast("RenewsAdmin", bench.provider)


def plan(bench: AdminBench, admin: Material | None = None, number: int = 1) -> Attempt:
    """Plan one renewal under a new operation id."""
    call = bench.call_as(admin if admin is not None else bench.admin)
    return provider(bench).prepare_admin(call, uuid4().hex, number)


def renew(bench: AdminBench) -> Material:
    """Make a new admin credential with no fault in the way."""
    return provider(bench).create_admin(bench.call(), plan(bench))


def recover(bench: AdminBench, attempt: Attempt) -> Material:
    """Repair a renewal whose answer was lost. This is the reference for callers.

    CLIENT and NAMED ask for the new one and replay where it is refused; all others end
    what the attempt made and begin anew.
    """
    if is_replayed(bench):
        if verdict(bench, attempt.material) is Verdict.VALID:
            return attempt.material
        return provider(bench).create_admin(bench.call(), attempt)
    provider(bench).withdraw_admin(bench.call(), attempt)
    return provider(bench).create_admin(bench.call(), plan(bench, number=attempt.number + 1))


def finish(bench: AdminBench, new: Material) -> None:
    """End the old credential and see that the new one alone is taken."""
    provider(bench).revoke_admin(bench.call_as(new), bench.admin)
    assert verdict(bench, new) is Verdict.VALID
    assert verdict(bench, bench.admin) is Verdict.INVALID


def verdict(bench: AdminBench, admin: Material) -> Verdict:
    """Try an admin credential and return the verdict alone."""
    return provider(bench).validate_admin(bench.call_as(admin)).verdict


def is_replayed(bench: AdminBench) -> bool:
    """Say whether the caller chooses the value, and repeats an equal attempt."""
    found = provider(bench).admin_capabilities(bench.call()).recovery
    return found in {Recovery.CLIENT, Recovery.NAMED}


def words_of(*materials: Material) -> list[bytes]:
    """Return every secret in some credentials."""
    return [secret.reveal() for material in materials for secret in material.values()]
