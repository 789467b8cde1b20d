"""Tokens of outside issuers: which are exchanged, and everything a bearer may try."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import timedelta

import pytest
from django.utils import timezone

from keyvault.agents import tokens
from keyvault.agents.models import AccessToken
from keyvault.audit.models import Denial, Event
from tests.keyvault.agents import local_issuer
from tests.keyvault.agents.local_issuer import GITHUB, GITLAB, KUBERNETES, exchange, refusal
from tests.keyvault.agents.proving import Signer

pytestmark = pytest.mark.django_db


def test_a_job_exchanges_its_own_token_for_one_of_ours(cast, issuer, agent, trust):
    answer = exchange(issuer.token(now=cast.now), scope="mail-key")

    assert answer.status_code == 200, answer.content
    row = tokens.authenticate(answer.json()["access_token"], now=timezone.now())
    assert (row.agent, row.keys) == (agent, ["mail-key"])
    assert row.holder == "repo:octo/pay:environment:production"
    assert row.binding.last_used_at is not None
    event = Event.objects.get(event="token.issued")
    assert (event.fields["method"], event.fields["said_by"]) == ("oidc", row.holder)
    assert issuer.asked == [local_issuer.DISCOVERY, "/keys"]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "Ed25519"])
def test_each_allowed_algorithm_works(cast, issuer, trust, algorithm):
    issuer.signers = [Signer(algorithm)]

    assert exchange(issuer.token(now=cast.now)).status_code == 200


@pytest.mark.parametrize(
    ("kind", "claims"), [("gitlab", GITLAB), ("kubernetes", KUBERNETES), ("oidc", None)]
)
def test_each_kind_of_issuer_is_matched_by_its_claims(cast, issuer, agent, kind, claims):
    claims = claims or {"iss": issuer.url, "sub": "spiffe://example.org/refund"}
    found = local_issuer.trusted(issuer, now=cast.now, kind=kind)
    local_issuer.bound(found, agent, now=cast.now, claims=claims)

    assert exchange(issuer.token(now=cast.now, **claims)).status_code == 200
    wrong = claims | ({"project_id": "23"} if kind == "gitlab" else {"sub": "somebody-else"})
    assert exchange(issuer.token(now=cast.now, **wrong)).status_code == 400


@pytest.mark.parametrize("name", GITHUB)
@pytest.mark.parametrize("value", [None, "other", "", 74, ["74"], True])
def test_one_pinned_claim_that_differs_closes_the_door(cast, issuer, trust, name, value):
    token = issuer.token(now=cast.now, **{name: value})

    assert refusal(token, now=cast.now) == "outside token: claims"


def _seconds(now, seconds):
    return int((now + timedelta(seconds=seconds)).timestamp())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (lambda i, now: {"iss": i.url + "/"}, "unknown issuer"),
        (lambda i, now: {"iss": i.url.replace("127.0.0.1", "localhost")}, "unknown issuer"),
        (lambda i, now: {"iss": None}, "unknown issuer"),
        (lambda i, now: {"iss": [i.url]}, "unknown issuer"),
        (lambda i, now: {"aud": local_issuer.AUDIENCE + "/"}, "audience"),
        (lambda i, now: {"aud": [local_issuer.AUDIENCE, "https://other.example"]}, "audience"),
        (lambda i, now: {"aud": None}, "audience"),
        (lambda i, now: {"aud": "https://github.com/octo"}, "audience"),
        (lambda i, now: {"exp": None}, "times"),
        (lambda i, now: {"exp": _seconds(now, -31), "iat": _seconds(now, -300)}, "expired"),
        (lambda i, now: {"nbf": _seconds(now, 40)}, "not yet valid"),
        (lambda i, now: {"iat": _seconds(now, 40), "nbf": None}, "not yet valid"),
        (lambda i, now: {"event_name": "pull_request"}, "pull request"),
        (lambda i, now: {"event_name": "pull_request_target"}, "pull request"),
        (lambda i, now: {"ref": "refs/pull/3/merge"}, "pull request"),
    ],
)
def test_a_token_with_one_wrong_claim_opens_nothing(cast, issuer, trust, changes, reason):
    answer = exchange(issuer.token(now=cast.now, **changes(issuer, cast.now)))

    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert Denial.objects.get().gate == f"token: outside token: {reason}"
    assert not AccessToken.objects.exists()


def test_an_audience_in_a_list_of_its_own_is_the_same(cast, issuer, trust):
    assert exchange(issuer.token(now=cast.now, aud=[local_issuer.AUDIENCE])).status_code == 200


def test_all_refusals_of_outside_tokens_look_alike(cast, issuer, agent, trust):
    strange = Signer("RS256", kid=issuer.signers[0].kid)
    answers = [
        exchange(issuer.token(now=cast.now, aud="https://other.example")),
        exchange(issuer.token(now=cast.now, environment="staging")),
        exchange(strange.sign(issuer.claims(now=cast.now))),
        exchange("no.token.atall"),
        exchange(issuer.token(now=cast.now), client_id="mail-bot"),
    ]

    assert len({(answer.status_code, answer.content) for answer in answers}) == 1


# What a hostile bearer may write into a token.


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _mac(key: bytes, claims: dict, **header: object) -> str:
    signed = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
    return f"{signed}.{_b64(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def test_the_public_key_as_an_hmac_secret_opens_nothing(cast, issuer, trust):
    signer = issuer.signers[0]
    claims = issuer.claims(now=cast.now)
    spellings = [
        signer.key.as_pem(private=False),
        json.dumps(signer.public).encode(),
        signer.public["n"].encode(),
        b"",
    ]

    for spelling in spellings:
        for algorithm in ("HS256", "RS256", "none"):
            token = _mac(spelling, claims, alg=algorithm, kid=signer.kid)
            assert refusal(token, now=cast.now).startswith("outside token: ")


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "NONE", "HS256", "RS1", "PS256", "", None, 5]
)
def test_no_other_algorithm_is_obeyed(cast, issuer, trust, algorithm):
    signer = issuer.signers[0]
    header = {"alg": algorithm, "kid": signer.kid}
    claims = issuer.claims(now=cast.now)
    unsigned = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}."

    assert refusal(unsigned, now=cast.now) in {
        "outside token: algorithm",
        "outside token: header",
    }
    signed = signer.sign(claims, alg=algorithm or "x")
    assert refusal(signed, now=cast.now) in {"outside token: algorithm", "outside token: header"}


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c", "crit", "b64"])
def test_a_key_that_the_token_brings_along_is_not_looked_at(cast, issuer, trust, member):
    mine = Signer("RS256", kid="mine")
    header = {
        "jwk": mine.public,
        "jku": f"{issuer.url}/evil",
        "x5u": f"{issuer.url}/evil",
        "x5c": ["AAAA"],
        "crit": ["exp"],
        "b64": False,
    }

    token = mine.sign(issuer.claims(now=cast.now), **{member: header[member]})

    assert refusal(token, now=cast.now) == "outside token: header"
    assert issuer.asked == []


@pytest.mark.parametrize(
    "kid", ["../../../etc/passwd", "/keys", "' OR 1=1 --", "k" * 5000, "", None]
)
def test_a_key_id_is_looked_up_and_never_followed(cast, issuer, trust, kid):
    mine = Signer("RS256")
    token = mine.sign(issuer.claims(now=cast.now), kid=kid)

    assert refusal(token, now=cast.now) == "issuer: unknown key"
    assert set(issuer.asked) <= {local_issuer.DISCOVERY, "/keys"}


@pytest.mark.parametrize("kid", [7, ["key-1"], {"a": 1}, True])
def test_a_key_id_that_is_no_text_is_refused(cast, issuer, trust, kid):
    token = issuer.signers[0].sign(issuer.claims(now=cast.now), kid=kid)

    assert refusal(token, now=cast.now) == "outside token: header"


def test_a_claim_that_stands_twice_is_refused_however_it_is_signed(cast, issuer, trust):
    payload = json.dumps(issuer.claims(now=cast.now)).encode()
    twice = payload[:-1] + b', "environment": "staging"}'
    nested = payload[:-1] + b', "x": {"a": 1, "a": 2}}'

    for body in (twice, nested):
        assert refusal(issuer.signers[0].sign(body), now=cast.now) == "outside token: form"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"exp": NaN}',
        b'{"exp": Infinity}',
        b'{"exp": ' + b"9" * 5000 + b"}",
        b"[" * 6000,
        b'{"iss": "a\\u0000b"}',
        b'{"iss": "\\ud800"}',
        b'{"x": [{"\\u0000": 1}]}',
    ],
)
def test_what_is_no_plain_json_object_is_refused(cast, issuer, trust, body):
    assert refusal(issuer.signers[0].sign(body), now=cast.now) == "outside token: form"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text + ".x",
        lambda text: text.rpartition(".")[0],
        lambda text: text.replace(".", "=.", 1),
        lambda text: text.replace(".", "!.", 1),
        lambda text: "A" * 20_000,
        lambda text: text + "A" * 17_000,
        lambda text: "é" + text,
    ],
)
def test_what_is_no_compact_token_is_refused(cast, issuer, trust, spoil):
    assert refusal(spoil(issuer.token(now=cast.now)), now=cast.now) == "outside token: form"
