"""Keys of outside issuers: rollover, outage, and an issuer on loopback that turns hostile."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction

from keyvault.agents import federation, issuers
from keyvault.agents.models import Trust
from tests.keyvault.agents import local_issuer
from tests.keyvault.agents.local_issuer import exchange, refusal, send
from tests.keyvault.agents.proving import Signer

pytestmark = pytest.mark.django_db


def test_a_new_key_is_learned_and_an_old_one_forgotten(cast, issuer, trust):
    old = issuer.token(now=cast.now)
    federation.vouch(text=old, client_id="", now=cast.now)
    issuer.signers = [Signer("RS256", kid="key-2")]
    new = issuer.token(now=cast.now)

    assert refusal(new, now=cast.now + timedelta(seconds=59)) == "issuer: unknown key"
    assert federation.vouch(text=new, client_id="", now=cast.now + timedelta(seconds=61))
    assert refusal(old, now=cast.now + timedelta(seconds=62)) == "issuer: unknown key"


def test_a_withdrawn_key_is_forgotten_after_a_quarter_of_an_hour(cast, issuer, trust):
    first = issuer.signers[0]
    federation.vouch(text=issuer.token(now=cast.now), client_id="", now=cast.now)
    issuer.signers = [Signer("RS256", kid="key-2")]

    for minutes, is_known in ((14, True), (16, False)):
        now = cast.now + timedelta(minutes=minutes)
        token = first.sign(issuer.claims(now=now))
        if is_known:
            assert federation.vouch(text=token, client_id="", now=now)
        else:
            assert refusal(token, now=now) == "issuer: unknown key"


def test_made_up_key_ids_ask_the_issuer_once_a_minute(cast, issuer, trust):
    for n in range(30):
        token = Signer("Ed25519", kid=f"made-up-{n}").sign(issuer.claims(now=cast.now))
        assert refusal(token, now=cast.now + timedelta(seconds=n)) == "issuer: unknown key"

    assert issuer.asked.count("/keys") == 1


def test_an_outage_is_bridged_for_a_day_and_no_longer(cast, issuer, trust):
    federation.vouch(text=issuer.token(now=cast.now), client_id="", now=cast.now)
    issuer.is_away = True

    for hours, is_served in ((1, True), (23, True), (25, False)):
        now = cast.now + timedelta(hours=hours)
        token = issuer.token(now=now)
        if is_served:
            assert federation.vouch(text=token, client_id="", now=now)
        else:
            assert refusal(token, now=now) == "issuer: unknown key"
    issuer.is_away = False
    now += timedelta(minutes=2)
    assert federation.vouch(text=issuer.token(now=now), client_id="", now=now)


def test_an_issuer_that_was_never_reached_vouches_for_nobody(cast, issuer, trust):
    issuer.is_away = True

    assert refusal(issuer.token(now=cast.now), now=cast.now) == "issuer: out of reach"
    assert len(issuer.asked) == 1
    assert refusal(issuer.token(now=cast.now), now=cast.now) == "issuer: out of reach"
    assert len(issuer.asked) == 1


def _json(document):
    return lambda handler: send(handler, json.dumps(document).encode())


HOSTILE = {
    "another issuer": (
        local_issuer.DISCOVERY,
        lambda i: _json({"issuer": "https://other.example", "jwks_uri": f"{i.url}/keys"}),
    ),
    "a longer issuer": (
        local_issuer.DISCOVERY,
        lambda i: _json({"issuer": i.url + "/", "jwks_uri": f"{i.url}/keys"}),
    ),
    "no keys named": (local_issuer.DISCOVERY, lambda i: _json({"issuer": i.url})),
    "keys at a file": (
        local_issuer.DISCOVERY,
        lambda i: _json({"issuer": i.url, "jwks_uri": "file:///etc/passwd"}),
    ),
    "keys at a metadata service": (
        local_issuer.DISCOVERY,
        lambda i: _json({"issuer": i.url, "jwks_uri": "http://169.254.169.254/keys"}),
    ),
    "keys at another local port": (
        local_issuer.DISCOVERY,
        lambda i: _json({"issuer": i.url, "jwks_uri": f"http://127.0.0.1:{i.port + 1}/keys"}),
    ),
    "a redirect": (
        "/keys",
        lambda i: lambda handler: send(handler, b"", status=302, Location=f"{i.url}/evil"),
    ),
    "a fault": ("/keys", lambda i: lambda handler: send(handler, b"{}", status=500)),
    "two megabytes": ("/keys", lambda i: lambda handler: send(handler, b" " * 2_000_000)),
    "a thousand keys": ("/keys", lambda i: _json({"keys": [i.signers[0].public] * 1000})),
    "one id twice": (
        "/keys",
        lambda i: _json({"keys": [i.signers[0].public, Signer("ES256").public]}),
    ),
    "deep nesting": ("/keys", lambda i: lambda handler: send(handler, b"[" * 100_000)),
    "no JSON": ("/keys", lambda i: lambda handler: send(handler, b"<html>")),
    "a list": ("/keys", lambda i: _json([])),
    "no list": ("/keys", lambda i: _json({"keys": {"a": 1}})),
    "no usable key": ("/keys", lambda i: _json({"keys": [None, 7, {"kty": "oct", "k": "AA"}]})),
    "a private key": (
        "/keys",
        lambda i: _json({"keys": [{**i.signers[0].key.as_dict(private=True), "kid": "key-1"}]}),
    ),
    "a weak key": (
        "/keys",
        lambda i: _json({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "key-1"}]}),
    ),
    "a key for encryption": (
        "/keys",
        lambda i: _json({"keys": [{**i.signers[0].public, "use": "enc"}]}),
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_r41_a_hostile_issuer_gains_nothing(cast, issuer, trust, how):
    path, answer = HOSTILE[how]
    issuer.answers[path] = answer(issuer)

    assert refusal(issuer.token(now=cast.now), now=cast.now) == "issuer: out of reach"
    assert set(issuer.asked) <= {local_issuer.DISCOVERY, "/keys"}


def test_keys_of_other_kinds_stand_beside_ours(cast, issuer, trust):
    others = [{"kty": "oct", "k": "AA", "kid": "x"}, {"kty": "EC", "crv": "P-521"}]
    issuer.answers["/keys"] = _json({"keys": [*others, issuer.signers[0].public]})

    assert exchange(issuer.token(now=cast.now)).status_code == 200


def test_r41_private_addresses_open_only_by_the_terms(cast, issuer, agent):
    """Without the approved exception the same issuer on loopback is not asked at all."""
    local_issuer.trusted(issuer, now=cast.now)
    Trust.objects.update(allowed_hosts=[])

    assert refusal(issuer.token(now=cast.now), now=cast.now) == "issuer: out of reach"
    assert issuer.asked == []


def test_keys_at_an_address_of_their_own_need_no_discovery(cast, issuer, agent):
    found = local_issuer.trusted(issuer, now=cast.now, jwks_url=f"{issuer.url}/keys")
    local_issuer.bound(found, agent, now=cast.now)

    assert exchange(issuer.token(now=cast.now)).status_code == 200
    assert issuer.asked == ["/keys"]


def test_many_first_comers_ask_once(cast, issuer, trust, key_sets):
    barrier, found = threading.Barrier(8), []
    kid = issuer.signers[0].kid

    def look():
        try:
            barrier.wait()
            found.append(key_sets.key(trust, kid, now=cast.now))
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert issuer.asked.count("/keys") == 1


def test_who_comes_while_an_issuer_is_asked_waits_for_the_answer(
    cast, issuer, trust, key_sets, monkeypatch
):
    """An agent was refused that came between the first question and its answer."""
    kid, read, ended = issuer.signers[0].kid, issuers.read, threading.Event()
    found = []

    def look():
        try:
            found.append(key_sets.key(trust, kid, now=cast.now))
        finally:
            connection.close()
            ended.set()

    second = threading.Thread(target=look)

    def slow(terms):
        second.start()
        assert not ended.wait(0.3)
        return read(terms)

    monkeypatch.setattr(issuers, "read", slow)
    found.append(key_sets.key(trust, kid, now=cast.now))
    second.join()

    assert [key.kid for key in found] == [kid, kid]


@pytest.mark.django_db(transaction=True)
def test_an_issuer_is_never_asked_inside_a_transaction(cast, issuer, trust):
    with transaction.atomic(), pytest.raises(RuntimeError):
        federation.vouch(text=issuer.token(now=cast.now), client_id="", now=cast.now)

    assert issuer.asked == []
