"""The token endpoint: every way in, every refusal, and nothing minted on a path that fails."""

from __future__ import annotations

import base64
import threading
import time
from datetime import timedelta
from secrets import token_hex

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from keyvault.accounts import lockout
from keyvault.agents import clients, issuing, services, tokens
from keyvault.agents.models import AccessToken, AgentState
from keyvault.agents.models import Client as Proof
from keyvault.api import forms, oauth
from keyvault.audit.models import Denial, Event
from keyvault.invalidation import services as invalidation
from keyvault.invalidation.models import GatewayInstance
from tests.keyvault.agents import builders, proving
from tests.keyvault.invalidation import snapshots

pytestmark = pytest.mark.django_db


def test_a_client_secret_brings_a_token_that_works(cast):
    agent = builders.agent(cast)
    answer = proving.by_secret(agent, proving.secret(agent, now=cast.now))
    body = answer.json()

    assert answer.status_code == 200
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] == 900
    assert body["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    assert answer["Cache-Control"] == "no-store"
    row = tokens.authenticate(body["access_token"], now=timezone.now())
    assert row.agent == agent
    agent.refresh_from_db()
    assert agent.last_seen_at is not None
    assert row.client.last_used_at is not None


@pytest.mark.parametrize("spelling", ["name", "id"])
def test_an_agent_may_call_itself_by_name_or_id_in_the_header(cast, spelling):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)
    name = agent.name if spelling == "name" else str(agent.pk)
    basic = base64.b64encode(f"{name}:{secret}".encode()).decode()

    answer = proving.ask({"grant_type": "client_credentials"}, authorization=f"Basic {basic}")

    assert answer.status_code == 200


def test_a_token_is_as_narrow_and_short_as_it_was_asked_for(cast):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)

    body = proving.by_secret(agent, secret, scope="mail-key ledger-key", expires_in="60").json()

    assert body["scope"] == "ledger-key mail-key"
    assert body["expires_in"] == 60
    assert tokens.authenticate(body["access_token"], now=timezone.now()).keys == [
        "ledger-key",
        "mail-key",
    ]


def _refused(answer) -> tuple[int, bytes, str]:
    return answer.status_code, answer.content, answer["WWW-Authenticate"]


def _suspend(agent, now):
    with transaction.atomic():
        services.set_state(
            agent_id=agent.pk,
            state=AgentState.SUSPENDED,
            cause="tests",
            actor=builders.TESTS,
            now=now,
        )


def _end_all_clients(agent, now):
    with transaction.atomic():
        for proof in Proof.objects.filter(agent=agent):
            clients.end(client_id=proof.pk, cause="tests", actor=builders.TESTS, now=now)


def test_r30_all_wrong_proofs_are_answered_alike(cast):
    agent, other = builders.agent(cast), builders.agent(cast, "mail-bot")
    right, of_other = (proving.secret(each, now=cast.now) for each in (agent, other))
    suspended, ended, expired = (
        builders.agent(cast, name) for name in ("still-bot", "ended-bot", "late-bot")
    )
    secrets = {each: proving.secret(each, now=cast.now) for each in (suspended, ended)}
    secrets[expired] = proving.secret(expired, now=cast.now - timedelta(days=91), days=90)
    _suspend(suspended, cast.now)
    _end_all_clients(ended, cast.now)

    answers = {
        "no such agent": proving.by_secret("nobody-bot", right),
        "wrong secret": proving.by_secret(
            agent, clients.tokens.issue("kvs").text.reveal().decode()
        ),
        "right id, wrong secret": proving.by_secret(agent, right[:-8] + "AAAAAAAA"),
        "no secret at all": proving.by_secret(agent, ""),
        "another agent's": proving.by_secret(agent, of_other),
        "a token": proving.by_secret(agent, clients.tokens.issue("kvt").text.reveal().decode()),
        "suspended": proving.by_secret(suspended, secrets[suspended]),
        "ended": proving.by_secret(ended, secrets[ended]),
        "expired": proving.by_secret(expired, secrets[expired]),
    }

    assert {_refused(answer) for answer in answers.values()} == {_refused(answers["no such agent"])}
    assert answers["suspended"].status_code == 401
    assert answers["suspended"].json()["error"] == "invalid_client"
    assert not AccessToken.objects.exists()


def test_the_ledger_says_why_and_the_answer_does_not(cast):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)
    _suspend(agent, cast.now)
    proving.by_secret(agent, secret)
    proving.by_secret(agent, "kvs_nonsense")

    assert set(Denial.objects.values_list("gate", "count", "example")) == {
        ("token: suspended agent", 1, agent.name),
        ("token: wrong secret", 1, ""),
    }
    assert secret not in str(list(Denial.objects.values()) + list(Event.objects.values()))


def test_guessing_ends_in_429_and_the_right_secret_still_opens(cast):
    """A stranger who knows the name, even at the same address, stops only himself."""
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)

    guesses = [
        proving.by_secret(agent, "kvs_guess").status_code
        for _ in range(lockout.LIMITS["program"] + 3)
    ]
    slowed = proving.by_secret(agent, "kvs_guess")

    assert guesses[: lockout.LIMITS["program"]] == [401] * lockout.LIMITS["program"]
    assert slowed.status_code == 429
    assert slowed.json()["error"] == "invalid_client"
    assert 1 <= int(slowed["Retry-After"]) <= 60
    assert proving.by_secret(agent, secret).status_code == 200
    assert Event.objects.filter(event="lockout.started").count() == 1


def test_names_in_turn_do_not_get_round_the_count_of_an_address(cast, monkeypatch):
    monkeypatch.setitem(lockout.LIMITS, "programs", 5)

    codes = [proving.by_secret(f"bot-{n}", "kvs_guess").status_code for n in range(8)]

    assert codes == [401] * 5 + [429] * 3


def test_a_program_that_fails_locks_no_person_out(cast):
    for _ in range(lockout.LIMITS["address"] + 5):
        proving.by_secret("nobody-bot", "kvs_guess")

    with lockout.attempt(username="alice", ip="127.0.0.1", now=timezone.now()):
        pass


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("", "invalid_request"),
        ("grant_type=&client_id=a", "invalid_request"),
        ("grant_type=password&username=a&password=b", "unsupported_grant_type"),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        ("grant_type=client_credentials&client_id=a%00b&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&client_id=a%0Ab&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&client_id=%ff&client_secret=x", "invalid_request"),
        ("grant_type=client_credentials&client_secret=x&client_assertion=y", "invalid_request"),
        ("grant_type=client_credentials&client_assertion=y", "invalid_request"),
        ("grant_type=client_credentials&scope=a&keys=b", "invalid_request"),
        ("grant_type=client_credentials&scope=no%20KEY..name", "invalid_scope"),
        ("grant_type=client_credentials&expires_in=59", "invalid_request"),
        ("grant_type=client_credentials&expires_in=3601", "invalid_request"),
        ("grant_type=client_credentials&expires_in=9e9", "invalid_request"),
        ("grant_type=client_credentials&expires_in=0000000600", "invalid_request"),
        ("grant_type=client_credentials&expires_in=" + "9" * 5000, "invalid_request"),
        ("&".join(f"f{n}=1" for n in range(40)), "invalid_request"),
        (f"grant_type={oauth.EXCHANGE.replace(':', '%3A')}", "invalid_request"),
    ],
)
def test_a_form_that_is_none_gets_a_document_of_the_standard(cast, body, error):
    answer = Client().post(proving.TOKEN, body, content_type=forms.MEDIA_TYPE)

    assert answer.status_code == 400
    assert answer.json()["error"] == error
    assert answer.json()["error_description"]


def test_other_bodies_and_addresses_with_a_query_are_refused(cast):
    right = "grant_type=client_credentials"
    for answer in (
        Client().post(proving.TOKEN, {"grant_type": "client_credentials"}),
        Client().post(proving.TOKEN, "{}", content_type="application/json"),
        Client().post(f"{proving.TOKEN}?client_secret=x", right, content_type=forms.MEDIA_TYPE),
        Client().post(proving.TOKEN, right + "&x=" + "y" * 40_000, content_type=forms.MEDIA_TYPE),
        Client().post(
            proving.TOKEN,
            right,
            content_type=forms.MEDIA_TYPE,
            headers={"Authorization": "Basic %%%"},
        ),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"] == "invalid_request"
    for joined in (b"no colon", b"a%00:b", b"a\nb:c", b"\xff:\xfe"):
        basic = {"Authorization": f"Basic {base64.b64encode(joined).decode()}"}
        answer = Client().post(proving.TOKEN, right, content_type=forms.MEDIA_TYPE, headers=basic)
        assert answer.status_code == 400, joined
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert Client().generic(method, proving.TOKEN).status_code == 405


def test_a_session_counts_for_nothing(cast, client_for):
    answer = client_for(cast.frank).post(
        proving.TOKEN, "grant_type=client_credentials", content_type=forms.MEDIA_TYPE
    )

    assert answer.status_code == 401


def test_a_token_buys_a_narrower_child_that_ends_with_it(cast):
    agent = builders.agent(cast)
    parent = proving.by_secret(
        agent, proving.secret(agent, now=cast.now), scope="mail-key ledger-key", expires_in="600"
    ).json()["access_token"]
    form = {
        "grant_type": oauth.EXCHANGE,
        "subject_token": parent,
        "subject_token_type": oauth.ACCESS_TOKEN,
    }

    child = proving.ask({**form, "scope": "mail-key", "expires_in": "3600"})
    wider = proving.ask({**form, "scope": "other-key"})

    assert child.status_code == 200
    assert child.json()["expires_in"] <= 600
    assert child.json()["scope"] == "mail-key"
    assert wider.status_code == 400
    assert wider.json()["error"] == "invalid_scope"
    assert proving.ask({"token": parent}, path=proving.REVOKE).status_code == 200
    with pytest.raises(tokens.BadToken):
        tokens.authenticate(child.json()["access_token"], now=timezone.now())
    again = proving.ask(form)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_request")


def test_giving_back_what_is_no_token_is_not_told_apart(cast):
    agent = builders.agent(cast)
    token = proving.by_secret(agent, proving.secret(agent, now=cast.now)).json()["access_token"]

    answers = [
        proving.ask({"token": text}, path=proving.REVOKE)
        for text in (token, token, "kvt_nonsense", token[:-1] + "-")
    ]

    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"{}")}
    assert Event.objects.filter(event="token.ended").count() == 1
    assert proving.ask({"nothing": "x"}, path=proving.REVOKE).status_code == 400


@pytest.mark.parametrize(
    "place",
    ["keyvault.agents.issuing._note_use", "keyvault.agents.issuing.invalidation.transaction_id"],
)
def test_r38_an_error_after_creation_leaves_no_token(cast, monkeypatch, place):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)

    def fail(*_args, **_kwargs):
        assert AccessToken.objects.exists()
        raise DatabaseError("planted")

    monkeypatch.setattr(place, fail)

    assert proving.by_secret(agent, secret).status_code == 503
    assert not AccessToken.objects.exists()
    assert not Event.objects.filter(event="token.issued").exists()


@pytest.mark.parametrize("error", [DatabaseError, RuntimeError, KeyboardInterrupt])
def test_r38_a_token_that_cannot_be_handed_over_is_ended(cast, monkeypatch, error):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)
    made = []
    issue = tokens.issue
    monkeypatch.setattr(tokens, "issue", lambda **more: made.append(issue(**more)) or made[-1])

    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(issuing.invalidation, "wait", fail)
    with pytest.raises(error):
        issuing.for_secret(
            client_id=agent.name, secret=secret, wish=issuing.Wish(), ip="", now=cast.now
        )

    with pytest.raises(tokens.BadToken):
        tokens.authenticate(made[0].text.reveal().decode(), now=cast.now)
    assert Event.objects.filter(event="token.ended").count() == 1


def test_r38_no_ledger_no_token(cast, monkeypatch):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)

    def fail(*_args, **_kwargs):
        raise issuing.LedgerUnavailable

    monkeypatch.setattr(tokens.ledger, "record", fail)
    answer = proving.by_secret(agent, secret)

    assert answer.status_code == 503
    assert answer.json()["error"] == "temporarily_unavailable"
    assert int(answer["Retry-After"]) > 0
    assert not AccessToken.objects.exists()


def test_r40_one_address_tells_all_others_whatever_the_request_says(cast, settings):
    settings.PUBLIC_URL, settings.GATEWAY_URL = "https://kv.example", "https://gw.example"

    answer = Client().get(
        "/.well-known/keyvault", headers={"X-Forwarded-Host": "evil.example", "Host": "localhost"}
    )

    assert answer.json() == {
        "console": "https://kv.example",
        "api": "https://kv.example/api/v1",
        "token_endpoint": "https://kv.example/api/v1/oauth/token",
        "device_authorization_endpoint": "https://kv.example/api/v1/oauth/device",
        "gateway": "https://gw.example",
    }


def test_r65_exchanging_again_and_again_gains_neither_time_nor_another_identity(cast):
    agent = builders.agent(cast)
    builders.agent(cast, "mail-bot")
    first = builders.token(cast, agent, ttl_s=300)
    text, end = first.text.reveal().decode(), first.token.expires_at

    for _ in range(4):
        form = {
            "grant_type": oauth.EXCHANGE,
            "subject_token": text,
            "subject_token_type": oauth.ACCESS_TOKEN,
            "client_id": "mail-bot",
            "expires_in": "3600",
        }
        text = proving.ask(form).json()["access_token"]
        row = tokens.authenticate(text, now=timezone.now())
        assert row.agent == agent
        assert row.expires_at == end

    with pytest.raises(tokens.BadToken):
        tokens.authenticate(text, now=end)


def _gateway(now):
    """Return a live gateway that has applied what was committed so far."""
    return GatewayInstance.objects.create(
        name="gateway",
        audit_mode="durable",
        started_at=now,
        seen_at=now + timedelta(minutes=1),
        applied=snapshots.everything(),
    )


@pytest.mark.django_db(transaction=True)
def test_a_token_is_handed_over_when_every_gateway_knows_it(cast, monkeypatch):
    monkeypatch.setattr(issuing, "WAIT_S", 60)
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)
    gateway = _gateway(cast.now)
    told_at = []

    def hear():
        try:
            while not AccessToken.objects.exists():
                time.sleep(0.01)
            time.sleep(0.1)
            told_at.append(time.monotonic())
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE keyvault_gatewayinstance SET applied = pg_current_snapshot()::text"
                    " WHERE id = %s",
                    [gateway.pk],
                )
        finally:
            connection.close()

    thread = threading.Thread(target=hear)
    thread.start()
    answer = proving.by_secret(agent, secret)
    answered_at = time.monotonic()
    thread.join()

    assert answer.status_code == 200
    assert told_at[0] < answered_at < told_at[0] + 30


@pytest.mark.django_db(transaction=True)
def test_a_gateway_that_hears_nothing_holds_a_token_up_for_a_second(cast):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)
    _gateway(cast.now)

    start = time.monotonic()
    answer = proving.by_secret(agent, secret)
    took_s = time.monotonic() - start

    assert answer.status_code == 200
    assert issuing.WAIT_S <= took_s < issuing.WAIT_S + 20


@pytest.mark.django_db(transaction=True)
def test_a_gateway_that_fell_silent_holds_up_the_end_of_a_token_and_not_its_beginning(
    cast, monkeypatch
):
    agent, waits = builders.agent(cast), []
    gateway = _gateway(cast.now)
    GatewayInstance.objects.filter(pk=gateway.pk).update(
        seen_at=cast.now - timedelta(seconds=5), stale_max_s=300
    )
    monkeypatch.setattr(invalidation.time, "sleep", waits.append)

    given = proving.by_secret(agent, proving.secret(agent, now=cast.now))
    assert (given.status_code, waits) == (200, [])

    monkeypatch.setattr(issuing, "WAIT_S", 0.05)
    ended = proving.ask({"token": given.json()["access_token"]}, path=proving.REVOKE)
    assert ended.status_code == 200
    assert waits


@pytest.mark.parametrize("field", ["client_id", "client_secret", "client_assertion", "scope"])
@pytest.mark.parametrize("is_broken", [False, True])
def test_r9_what_was_sent_is_in_no_answer_and_no_log(
    cast, monkeypatch, caplog, capfd, field, is_broken
):
    canary = "canary" + token_hex(8)
    if is_broken:
        monkeypatch.setattr(lockout.denials, "count", _database_error)
        monkeypatch.setattr(issuing.proofs, "by_secret", _database_error)
        monkeypatch.setattr(issuing.proofs, "by_assertion", _database_error)
    form = {"grant_type": "client_credentials", "client_id": "refund-bot", field: canary}
    if field == "client_assertion":
        form["client_assertion_type"] = oauth.ASSERTION

    answer = proving.ask(form)

    assert answer.status_code >= 400
    written = caplog.text + "".join(capfd.readouterr()) + answer.content.decode()
    assert canary not in written + str(answer.headers)
    assert canary not in str(list(Denial.objects.values()) + list(Event.objects.values()))


def _database_error(*_args, **_kwargs):
    raise DatabaseError("planted")
