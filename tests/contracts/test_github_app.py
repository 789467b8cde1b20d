"""The GitHub App provider before a fake of the vendor's server: tokens for one run."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from joserfc import jwk

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Denied,
    Mints,
    Misconfigured,
    NotFound,
    Provider,
    ProviderError,
    RemoteKey,
    Unsupported,
    Verdict,
)
from keyvault.providers.github_app import GitHubApp
from keyvault.providers.testing import FaultProxy, MintConformance, listed
from keyvault.providers.testing.bench import prepare
from tests.contracts.vendors.github_server import GitHubServer
from tests.contracts.vendors.http_bench import HttpBench
from tests.contracts.vendors.server import Answer, serving


@pytest.fixture(scope="module")
def running() -> Iterator[GitHubServer]:
    with serving(GitHubServer()) as server:
        yield server


@pytest.fixture
def server(running) -> GitHubServer:
    running.faults.clear()
    return running


@pytest.fixture
def bench(server: GitHubServer) -> Iterator[HttpBench]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield HttpBench(
            provider=GitHubApp(),
            proxy=proxy,
            config={"app": server.app, "installation": str(server.add_installation().number)},
            options={"permissions": "contents:write issues:read", "repositories": "shop"},
            admin={"private_key": Secret.of(server.pem)},
            change=rb"POST /|DELETE /",
        )


class TestGitHubApp(MintConformance):
    """The public suite for such providers; its `bench` is the fixture above."""


def mint(bench, *scopes, ttl_s=600):
    provider = bench.provider
    assert isinstance(provider, Mints)
    return provider.mint(bench.call(), "run-1", scopes, ttl_s)


def _installation(bench, server):
    return server.installations[int(bench.config["installation"])]


def _with(bench, **options):
    return replace(bench, options={**bench.options, **options})


@pytest.mark.parametrize(("typed", "seconds"), [("", 3600), ("60", 3600), ("5", 300)])
def test_a_key_says_for_how_long_a_run_may_hold_a_token(bench, typed, seconds):
    other = _with(bench, longest_minutes=typed)
    assert other.provider.longest_s(other.call()) == seconds


@pytest.mark.parametrize("typed", ["0", "61", "-5", "5.5", "an hour", "\u0665"])
def test_another_length_of_a_lease_is_refused_while_a_key_is_asked_for(bench, typed):
    other = _with(bench, longest_minutes=typed)
    with pytest.raises(Misconfigured, match="1 to 60 minutes"):
        other.provider.foresee(other.call())


def test_a_token_may_do_what_its_key_says_and_no_more(bench, server):
    issued = mint(bench)
    [token] = _installation(bench, server).tokens.values()
    assert token.permissions == {"contents": "write", "issues": "read", "metadata": "read"}
    assert token.repositories == ("shop",)
    assert issued.public["permissions"] == "contents:write issues:read"
    assert issued.expires_at is not None
    left = issued.expires_at - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_a_run_takes_less_than_the_key_has_and_never_more(bench, server):
    mint(bench, "contents:read")
    [token] = _installation(bench, server).tokens.values()
    assert token.permissions == {"contents": "read", "metadata": "read"}
    for more in ("issues:write", "actions:read", "contents:admin"):
        with pytest.raises(Misconfigured, match="has no permission"):
            mint(bench, more)
    assert len(_installation(bench, server).tokens) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"permissions": ""}, "at least one permission"),
        ({"permissions": "contents"}, "contents:read issues:write"),
        ({"permissions": "contents:all"}, "contents:read issues:write"),
        ({"permissions": "contents:read contents:write"}, "each once"),
        ({"repositories": "owner/shop"}, "without the owner"),
        ({"repositories": " ".join(f"r{n}" for n in range(501))}, "at most 500"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_made(
    bench, server, options, words
):
    other = _with(bench, **options)
    for attempted in (lambda: prepare(other), lambda: mint(other)):
        with pytest.raises(Misconfigured, match=words):
            attempted()
    assert not _installation(bench, server).tokens


@pytest.mark.parametrize("options", [{"permissions": "actions:read"}, {"repositories": "theirs"}])
def test_what_the_app_does_not_have_is_refused_there(bench, server, options):
    with pytest.raises(Misconfigured, match="422"):
        mint(_with(bench, **options))
    assert not _installation(bench, server).tokens


def test_a_longer_life_than_the_vendors_is_refused(bench):
    with pytest.raises(Misconfigured, match="3600"):
        mint(bench, ttl_s=3601)


def test_the_id_is_the_name_in_the_vendors_audit_log(bench):
    issued = mint(bench)
    token = issued.material["token"].reveal()
    assert base64.b64decode(issued.remote_id) == hashlib.sha256(token).digest()


def test_a_token_ends_by_itself(bench, server):
    issued = mint(bench)
    [token] = _installation(bench, server).tokens.values()
    token.ends_at = time.time() - 1
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.INVALID
    bench.provider.end(bench.call(), issued)


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_a_refusal_of_the_question_is_no_verdict_on_the_token(bench, server, status):
    issued = mint(bench)
    server.fail(status)
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(("status", "kind"), [(403, Denied), (404, NotFound), (500, Ambiguous)])
def test_a_token_counts_as_ended_only_by_the_vendors_word(bench, server, status, kind):
    issued = mint(bench)
    server.fail(status)
    with pytest.raises(kind):
        bench.provider.end(bench.call(), issued)
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.VALID


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"token": "ghs_x"},
        {"token": "", "expires_at": "2030-01-01T00:00:00Z"},
        {"token": "ghs_x", "expires_at": "2030-01-01T00:00:00"},
        {"token": "ghs_x", "expires_at": "soon"},
    ],
)
def test_an_answer_without_the_token_or_its_end_is_ambiguous(bench, server, body):
    server.faults.append(Answer(201, body))
    with pytest.raises(Ambiguous):
        mint(bench)


def test_what_lasts_is_not_to_be_had_here(bench: HttpBench):
    provider: Provider = bench.provider
    attempt = prepare(bench)
    with pytest.raises(Unsupported):
        provider.create(bench.call(), attempt)
    with pytest.raises(Unsupported):
        provider.revoke(bench.call(), RemoteKey("x"), kill_sessions=True)
    assert provider.find(bench.call(), attempt) == []
    assert listed(bench) == {}


def test_check_names_a_suspended_installation_and_a_wrong_number(bench, server):
    _installation(bench, server).suspended_at = "2026-01-01T00:00:00Z"
    [problem] = bench.provider.check(bench.call())
    assert "suspended" in problem.sentence
    lost = replace(bench, config={**bench.config, "installation": "7"})
    [problem] = bench.provider.check(lost.call())
    assert "installation of this app" in problem.mend


@pytest.mark.parametrize("config", [{"app": "a b"}, {"app": ""}, {"installation": "../7"}])
def test_settings_of_the_connection_are_plain(bench, config):
    other = replace(bench, config={**bench.config, **config})
    [problem] = bench.provider.check(other.call())
    assert "installation by its number" in problem.sentence


def test_another_key_is_refused_and_nothing_of_it_is_told(bench):
    pem = jwk.generate_key("RSA", 2048).as_pem(private=True)
    other = replace(bench, admin={"private_key": Secret.of(pem)})
    [problem] = bench.provider.check(other.call())
    assert "does not accept the credential" in problem.sentence
    assert "clock" in problem.mend


@pytest.mark.parametrize(
    "pem", ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
)
def test_what_is_no_key_is_said_without_it(bench, pem):
    other = replace(bench, admin={"private_key": Secret.of(pem)})
    with pytest.raises(ProviderError) as failure:
        mint(other)
    assert isinstance(failure.value, Misconfigured)
    assert "AAAA" not in str(failure.value)


@pytest.mark.parametrize("off_s", [-3600, 3600])
def test_a_clock_that_is_wrong_is_what_the_check_speaks_of(bench, monkeypatch, off_s):
    assert bench.provider.check(bench.call()) == []
    # The server runs in this process and has to keep the right time.
    clock = _Clock(time.time() + off_s)
    monkeypatch.setattr("keyvault.providers.github_app.installation.time", clock)
    [problem] = bench.provider.check(bench.call())
    assert "clock" in problem.mend


class _Clock:
    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now
