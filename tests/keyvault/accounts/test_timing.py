"""R29: how long a refusal takes tells nothing about the account."""

import secrets
import statistics
import time

import pytest
from django.contrib.auth import hashers
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from keyvault.accounts import lockout, services, signin
from keyvault.accounts.models import User
from tests import cast as people

KINDS = ("alice", "nobody", "disabled", "unusable")


@pytest.fixture
def accounts(cast, monkeypatch):
    monkeypatch.setitem(lockout.LIMITS, "person", 10**9)
    monkeypatch.setitem(lockout.LIMITS, "address", 10**9)
    with transaction.atomic():
        disabled = people.person("disabled", now=cast.now)
        services.deactivate(user=disabled, now=cast.now, actor=people.HOST)
        people.person("unusable", now=cast.now, password=None)
    return KINDS


def refuse(username):
    with pytest.raises(signin.BadCredentials):
        signin.check(username=username, password="wrong", ip="192.0.2.1", now=timezone.now())


def timed(username):
    start = time.perf_counter()
    refuse(username)
    return time.perf_counter() - start


def samples_of(kinds, count):
    """Return `count` times in seconds for each kind, in turns that a coin orders."""
    taken = {kind: [] for kind in kinds}
    for _ in range(count):
        for kind in sorted(kinds, key=lambda _: secrets.randbits(32)):
            taken[kind].append(timed(kind))
    return taken


def interval(one, other, rounds=400):
    """Return the 95 % bootstrap interval of the difference of medians, in seconds."""
    differences = sorted(
        statistics.median(secrets.SystemRandom().choices(one, k=len(one)))
        - statistics.median(secrets.SystemRandom().choices(other, k=len(other)))
        for _ in range(rounds)
    )
    return differences[int(rounds * 0.025)], differences[int(rounds * 0.975)]


@pytest.mark.django_db
def test_r29_every_kind_of_account_costs_the_same_queries_and_one_hash(accounts, monkeypatch):
    refuse("alice")
    checked = []
    hasher = type(hashers.get_hasher())
    verify = hasher.verify
    monkeypatch.setattr(
        hasher, "verify", lambda self, *args: checked.append(1) or verify(self, *args)
    )
    costs = {}
    for kind in accounts:
        checked.clear()
        with CaptureQueriesContext(
            connection,
        ) as queries:
            refuse(kind)
        shapes = [query["sql"].split("WHERE")[0] for query in queries.captured_queries]
        costs[kind] = (len(shapes), len(checked))
    assert len(set(costs.values())) == 1, costs
    assert costs["alice"][1] == 1


@pytest.mark.django_db
def test_r29_a_small_sample_shows_no_difference(accounts):
    taken = samples_of(accounts, 30)
    for kind in accounts[1:]:
        low, high = interval(taken["alice"], taken[kind])
        assert low < 0.02, (kind, low, high)
        assert high > -0.02, (kind, low, high)


@pytest.mark.campaign
@pytest.mark.django_db
def test_r29_two_thousand_samples_at_full_cost_differ_by_less_than_2_ms(accounts, settings):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
    signin._decoy.cache_clear()
    for user in User.objects.filter(username__in=["alice", "disabled"]):
        user.set_password(people.PASSWORD)
        user.save()
    taken = samples_of(accounts, 2000)
    signin._decoy.cache_clear()
    for kind in accounts[1:]:
        low, high = interval(taken["alice"], taken[kind])
        assert low > -0.002, (kind, low, high)
        assert high < 0.002, (kind, low, high)
