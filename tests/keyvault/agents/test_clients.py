"""Client secrets and registered keys: shown once, few, short, and ended with their tokens."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone
from joserfc import jwk

from approvals.ports import NotVisible
from keyvault.agents import clients, services, tokens
from keyvault.agents.models import AccessToken, AgentState, Client
from keyvault.audit.models import Event
from keyvault.crypto import jwt
from tests.keyvault.agents import builders, proving
from tests.keyvault.agents.proving import Signer

pytestmark = pytest.mark.django_db


def _add(agent, now, **more):
    with transaction.atomic():
        return clients.add_secret(agent_id=agent.pk, actor=builders.TESTS, now=now, **more)


def _key(agent, now, public, **more):
    with transaction.atomic():
        return clients.add_key(
            agent_id=agent.pk, public_jwk=public, actor=builders.TESTS, now=now, **more
        )


def _end(client, now):
    with transaction.atomic():
        return clients.end(client_id=client.pk, cause="tests", actor=builders.TESTS, now=now)


def test_a_secret_is_kept_as_a_digest_only(cast):
    made = _add(builders.agent(cast), cast.now)
    text = made.text.reveal().decode()

    assert text.startswith("kvs_")
    assert text not in str(list(Client.objects.values()) + list(Event.objects.values()))
    assert text.rpartition("_")[2] not in str(list(Client.objects.values()))
    event = Event.objects.get(event="client.added")
    assert event.fields["client"] == made.client.public_id


def test_a_secret_ends_within_90_days(cast):
    agent = builders.agent(cast)

    assert _add(agent, cast.now).client.expires_at == cast.now + timedelta(days=90)
    for days in (0, -1, 91):
        with pytest.raises(clients.BadLifetime, match="1 to 90"):
            _add(agent, cast.now, days=days)


def test_two_secrets_overlap_and_a_third_waits_for_one_to_end(cast):
    agent = builders.agent(cast)
    old = _add(agent, cast.now, days=1)
    new = _add(agent, cast.now)

    with pytest.raises(clients.TooMany, match="2 live secrets"):
        _add(agent, cast.now)
    later = cast.now + timedelta(days=1)
    _add(agent, later)
    with pytest.raises(clients.TooMany):
        _add(agent, later)
    _end(new.client, later)
    _add(agent, later)
    assert clients.live(now=later).count() == 2
    assert old.client not in clients.live(now=later)


@pytest.mark.django_db(transaction=True)
def test_racers_do_not_add_a_third(cast):
    agent = builders.agent(cast)
    barrier = threading.Barrier(8)
    refused = []

    def add():
        try:
            barrier.wait()
            _add(agent, cast.now)
        except clients.TooMany as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clients.live(now=cast.now).count() == 2
    assert len(refused) == 6


def test_ending_a_secret_ends_its_tokens_and_no_others(cast):
    agent = builders.agent(cast)
    one, other = _add(agent, cast.now), _add(agent, cast.now)
    texts = [
        proving.by_secret(agent, made.text.reveal().decode()).json()["access_token"]
        for made in (one, other)
    ]

    _end(one.client, cast.now)
    _end(one.client, cast.now)

    with pytest.raises(tokens.BadToken):
        tokens.authenticate(texts[0], now=timezone.now())
    assert tokens.authenticate(texts[1], now=timezone.now())
    assert Event.objects.filter(event="client.ended").count() == 1
    assert Event.objects.filter(event="token.ended").count() == 1


def test_a_retired_or_unknown_agent_gets_none(cast):
    agent = builders.agent(cast)
    with transaction.atomic():
        services.set_state(
            agent_id=agent.pk,
            state=AgentState.RETIRED,
            cause="tests",
            actor=builders.TESTS,
            now=cast.now,
        )

    with pytest.raises(services.Retired):
        _add(agent, cast.now)
    with pytest.raises(services.Retired):
        _key(agent, cast.now, Signer().public)
    with pytest.raises(NotVisible), transaction.atomic():
        clients.add_secret(agent_id=cast.alice.pk, actor=builders.TESTS, now=cast.now)
    with pytest.raises(NotVisible), transaction.atomic():
        clients.end(client_id=agent.pk, cause="tests", actor=builders.TESTS, now=cast.now)


@pytest.mark.parametrize("algorithm", ["Ed25519", "ES256", "RS256"])
def test_a_public_key_is_kept_without_what_came_beside_it(cast, algorithm):
    signer = Signer(algorithm)

    client = _key(builders.agent(cast), cast.now, {**signer.public, "x5u": "https://evil.example"})

    assert client.jwk == signer.key.as_dict(private=False) | {"kty": client.jwk["kty"]}
    assert Event.objects.get(event="client.added").fields["algorithm"] == algorithm


def _public(kind, size, **changes):
    found = {**jwk.generate_key(kind, size).as_dict(private=False), **changes}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: jwk.generate_key("OKP", "Ed25519").as_dict(private=True), "public half"),
        (lambda: jwk.generate_key("RSA", 2048).as_dict(private=True), "public half"),
        (lambda: jwk.generate_key("oct", 256).as_dict(), "public half"),
        (lambda: {"kty": "oct"}, "must be Ed25519"),
        (lambda: _public("RSA", 2048, n="gA" + "A" * 169), "2048 to 8192 bits"),
        (lambda: {"kty": "RSA", "n": "AQ", "e": "AQAB"}, "2048 to 8192 bits"),
        (lambda: {"kty": "RSA", "n": "*", "e": "AQAB"}, "unreadable"),
        (lambda: _public("RSA", 2048, alg="none"), "must serve"),
        (lambda: _public("RSA", 2048, alg="HS256"), "must serve"),
        (lambda: _public("RSA", 2048, alg="PS256"), "must serve"),
        (lambda: _public("RSA", 2048, e=None), "missing"),
        (lambda: _public("RSA", 2048, e="AA"), "not a valid"),
        (lambda: _public("EC", "P-384"), "must be Ed25519"),
        (lambda: _public("EC", "secp256k1"), "must be Ed25519"),
        (lambda: _public("EC", "P-256", y="AAAA"), "not a valid"),
        (lambda: _public("EC", "P-256", use="enc"), "must serve"),
        (lambda: _public("EC", "P-256", key_ops=["encrypt"]), "must serve"),
        (lambda: _public("OKP", "X25519"), "must be Ed25519"),
        (lambda: _public("OKP", "Ed25519", x=7), "missing"),
        (lambda: _public("OKP", "Ed25519", crv=["Ed25519"]), "must be Ed25519"),
        (dict, "must be Ed25519"),
        (list, "one JSON object"),
        (lambda: "text", "one JSON object"),
    ],
)
def test_what_is_no_public_key_of_ours_is_refused(cast, make, sentence):
    with pytest.raises(jwt.BadJwk, match=sentence):
        _key(builders.agent(cast), cast.now, make())


def test_one_key_pair_is_one_agents(cast):
    signer = Signer()
    first = _key(builders.agent(cast), cast.now, signer.public)

    with pytest.raises(clients.KeyKnown):
        _key(builders.agent(cast, "mail-bot"), cast.now, signer.public)
    _end(first, cast.now)
    with pytest.raises(clients.KeyKnown):
        _key(builders.agent(cast, "post-bot"), cast.now, signer.public)


def test_tokens_of_a_key_end_with_it(cast):
    agent = builders.agent(cast)
    signer = proving.registered(agent, now=cast.now)
    now = timezone.now()
    proving.by_assertion(signer.sign(proving.assertion_claims(agent, now=now)))

    _end(Client.objects.get(), now)

    assert not AccessToken.objects.filter(ended_at=None).exists()
    again = proving.by_assertion(signer.sign(proving.assertion_claims(agent, now=now)))
    assert again.status_code == 401
