"""private_key_jwt: an assertion proves its agent once, to this address, for five minutes at most."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from keyvault.agents import issuing, tokens
from keyvault.agents.models import AccessToken, UsedAssertion
from keyvault.api import oauth
from keyvault.audit.models import Denial, Event
from keyvault.crypto import jwt
from tests.keyvault.agents import builders, proving

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256", "RS256"])
def test_a_signed_assertion_brings_a_token(cast, algorithm):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now, algorithm=algorithm)

    answer = proving.by_assertion(signer.sign(proving.assertion_claims(agent, now=cast.now)))

    assert answer.status_code == 200
    row = tokens.authenticate(answer.json()["access_token"], now=timezone.now())
    assert (row.agent, row.client.kind) == (agent, "jwt")


def test_an_agent_may_sign_as_its_id_and_with_the_old_name_of_the_algorithm(cast):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    claims = proving.assertion_claims(agent, now=cast.now, iss=str(agent.pk), sub=str(agent.pk))

    answer = proving.by_assertion(signer.sign(claims, alg="EdDSA"), client_id=str(agent.pk))

    assert answer.status_code == 200


def _at(now, seconds):
    return int((now + timedelta(seconds=seconds)).timestamp())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (lambda now: {"aud": "https://elsewhere.example/token"}, "audience"),
        (lambda now: {"aud": oauth.address() + "/"}, "audience"),
        (lambda now: {"aud": [oauth.address(), "https://elsewhere.example"]}, "audience"),
        (lambda now: {"aud": []}, "audience"),
        (lambda now: {"aud": None}, "audience"),
        (lambda now: {"sub": "mail-bot"}, "issuer and subject"),
        (lambda now: {"sub": None}, "issuer and subject"),
        (lambda now: {"iss": "nobody-bot", "sub": "nobody-bot"}, "signature"),
        (lambda now: {"iss": None}, "signature"),
        (lambda now: {"iss": 7, "sub": 7}, "signature"),
        (lambda now: {"exp": None}, "times"),
        (lambda now: {"iat": None}, "times"),
        (lambda now: {"exp": "soon"}, "times"),
        (lambda now: {"exp": True}, "times"),
        (lambda now: {"exp": 10**15}, "times"),
        (lambda now: {"exp": -1}, "times"),
        (lambda now: {"exp": _at(now, 301)}, "lifetime"),
        (lambda now: {"exp": _at(now, -5), "iat": _at(now, 0)}, "lifetime"),
        (lambda now: {"iat": _at(now, -200), "exp": _at(now, -40)}, "expired"),
        (lambda now: {"iat": _at(now, 60), "exp": _at(now, 120)}, "not yet valid"),
        (lambda now: {"nbf": _at(now, 60)}, "not yet valid"),
        (lambda now: {"nbf": "later"}, "times"),
        (lambda now: {"jti": None}, "jti"),
        (lambda now: {"jti": ""}, "jti"),
        (lambda now: {"jti": 7}, "jti"),
        (lambda now: {"jti": "j" * 301}, "jti"),
    ],
)
def test_an_assertion_with_one_wrong_claim_opens_nothing(cast, changes, reason):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    claims = proving.assertion_claims(agent, now=cast.now, **changes(cast.now))

    answer = proving.by_assertion(signer.sign(claims))

    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"
    assert Denial.objects.get().gate == f"token: assertion: {reason}"
    assert not AccessToken.objects.exists()
    assert not UsedAssertion.objects.exists()


@pytest.mark.parametrize("seconds", [-25, 25])
def test_thirty_seconds_of_leeway_are_granted(cast, seconds):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    start, end = (seconds - 100, seconds) if seconds < 0 else (seconds, seconds + 100)
    claims = proving.assertion_claims(
        agent, now=cast.now, iat=_at(cast.now, start), exp=_at(cast.now, end)
    )

    assert proving.by_assertion(signer.sign(claims)).status_code == 200


def test_another_agents_key_proves_nothing(cast):
    agent, other = builders.agent(cast), builders.agent(cast, "mail-bot")
    proving.registered(agent, now=cast.now)
    signer = proving.registered(other, now=cast.now)

    answer = proving.by_assertion(signer.sign(proving.assertion_claims(agent, now=cast.now)))
    named = proving.by_assertion(
        signer.sign(proving.assertion_claims(other, now=cast.now)), client_id=agent.name
    )

    assert (answer.status_code, named.status_code) == (401, 401)


def test_an_assertion_counts_once(cast):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    text = signer.sign(proving.assertion_claims(agent, now=cast.now))

    assert proving.by_assertion(text).status_code == 200
    assert proving.by_assertion(text).status_code == 401
    assert Denial.objects.get().gate == "token: assertion: used before"
    assert AccessToken.objects.count() == 1


def test_the_same_jti_of_two_agents_is_two_assertions(cast):
    codes = []
    for name in ("refund-bot", "mail-bot"):
        agent = builders.agent(cast, name)
        signer = proving.registered(agent, now=cast.now)
        claims = proving.assertion_claims(agent, now=cast.now, jti="same")
        codes.append(proving.by_assertion(signer.sign(claims)).status_code)

    assert codes == [200, 200]


@pytest.mark.django_db(transaction=True)
def test_of_twenty_who_replay_one_assertion_exactly_one_gets_a_token(cast):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    text = signer.sign(proving.assertion_claims(agent, now=cast.now))
    barrier, codes = threading.Barrier(20), []

    def replay():
        try:
            barrier.wait()
            codes.append(proving.by_assertion(text).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=replay) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert codes.count(200) == 1
    assert set(codes) <= {200, 401, 429}
    assert len(codes) == 20
    assert AccessToken.objects.count() == UsedAssertion.objects.count() == 1
    assert Event.objects.filter(event="token.issued").count() == 1


def test_an_assertion_of_a_failed_try_is_not_spent(cast, monkeypatch):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    text = signer.sign(proving.assertion_claims(agent, now=cast.now))
    with monkeypatch.context() as broken:
        broken.setattr(issuing, "_note_use", _database_error)
        assert proving.by_assertion(text).status_code == 503

    assert proving.by_assertion(text).status_code == 200


def _database_error(*_args, **_kwargs):
    raise DatabaseError("planted")


@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256", "RS256"])
def test_r29_a_signature_is_checked_whoever_is_named(cast, monkeypatch, algorithm):
    agent = builders.agent(cast)
    proving.registered(agent, now=cast.now, algorithm=algorithm)
    wrong = proving.Signer(algorithm)
    checked = []
    verify = jwt.PublicKey.verify
    monkeypatch.setattr(
        jwt.PublicKey, "verify", lambda key, token: checked.append(1) or verify(key, token)
    )
    counts = []
    for name in (agent.name, "nobody-bot"):
        checked.clear()
        claims = proving.assertion_claims(agent, now=cast.now, iss=name, sub=name)
        assert proving.by_assertion(wrong.sign(claims)).status_code == 401
        counts.append(len(checked))

    assert counts == [1, 1]
