"""What the OAuth endpoints bear: calls of one address, and live tokens of one holder."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from keyvault.agents import issuing, tokens
from keyvault.agents.models import AccessToken
from keyvault.api import forms, limits, oauth
from keyvault.api.limits import Buckets, Rate
from keyvault.audit.models import Denial
from tests.keyvault.agents import builders, proving

pytestmark = pytest.mark.django_db
DEVICE = "/api/v1/oauth/device"
FEW = Rate(per_s=0.1, burst=2)


@pytest.fixture
def few(monkeypatch):
    """Let an address send two forms at once."""
    monkeypatch.setattr(limits, "SOURCE", FEW)


def _sent(path: str, form: str, address: str = "192.0.2.7"):
    return Client().post(path, form, content_type=forms.MEDIA_TYPE, REMOTE_ADDR=address)


@pytest.mark.parametrize(
    ("path", "form", "error"),
    [
        (proving.TOKEN, "grant_type=client_credentials&client_id=a", forms.BUSY),
        (proving.TOKEN, f"grant_type={oauth.EXCHANGE}", forms.BUSY),
        (proving.TOKEN, f"grant_type={forms.DEVICE}&device_code=x", "slow_down"),
        (proving.REVOKE, "token=kvt_x", forms.BUSY),
        (DEVICE, "client_name=x", forms.BUSY),
    ],
)
def test_an_address_that_asks_too_much_waits_and_another_does_not(cast, few, path, form, error):
    before = [_sent(path, form).status_code for _ in range(2)]
    refused = _sent(path, form)

    assert 429 not in before
    assert (refused.status_code, refused.json()["error"]) == (429, error)
    assert refused.json()["error_description"]
    assert 1 <= int(refused["Retry-After"]) <= 10
    assert _sent(path, form, "192.0.2.8").status_code != 429


def test_a_form_that_cannot_be_read_is_charged_too(cast, few):
    for _ in range(2):
        assert _sent(proving.TOKEN, "a=1&a=2").status_code == 400

    assert _sent(proving.TOKEN, "grant_type=client_credentials").status_code == 429


def test_no_more_secrets_are_tried_than_an_address_may_send(cast, few, monkeypatch):
    agent, tried = builders.agent(cast), []
    by_secret = issuing.proofs.by_secret
    monkeypatch.setattr(
        issuing.proofs, "by_secret", lambda **more: tried.append(1) or by_secret(**more)
    )

    codes = [proving.by_secret(agent, "kvs_guess").status_code for _ in range(20)]

    assert codes == [401] * 2 + [429] * 18
    assert len(tried) == 2


@pytest.mark.parametrize("path", [proving.TOKEN, proving.REVOKE, DEVICE])
def test_one_subscriber_of_ipv6_is_one_address(cast, few, path):
    codes = [_sent(path, "token=x", f"2001:db8:0:1::{n:x}").status_code for n in range(3)]

    assert codes[2] == 429
    assert _sent(path, "token=x", "2001:db8:0:2::1").status_code != 429


def test_reads_by_token_leave_the_renewal_of_tokens_alone(cast, few):
    agent = builders.agent(cast)
    secret = proving.secret(agent, now=cast.now)
    for _ in range(3):
        last = Client().get("/api/v1/keys")

    assert last.status_code == 429
    assert proving.by_secret(agent, secret).status_code == 200


def test_a_hundred_programs_behind_one_address_that_renew_each_minute_never_wait():
    buckets = Buckets()
    waits = [
        buckets.take("oauth", "a", limits.SOURCE, at=60.0 * minute)
        for minute in range(30)
        for _ in range(100)
    ]

    assert set(waits) == {0.0}


def test_a_program_that_renews_each_minute_never_reaches_the_bound(cast):
    agent = builders.agent(cast)
    for minute in range(62):
        with transaction.atomic():
            tokens.issue(
                holder=agent,
                ttl_s=3600,
                now=cast.now + timedelta(minutes=minute),
                source=tokens.Source(),
            )

    assert AccessToken.objects.filter(agent=agent).count() == 62
    assert tokens.MOST_LIVE > 60


def test_a_holder_of_too_many_live_tokens_is_told_the_mend(cast, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_LIVE", 3)
    agent, other = builders.agent(cast), builders.agent(cast, "other-bot")
    secret = proving.secret(agent, now=cast.now)
    given = [proving.by_secret(agent, secret, expires_in="600") for _ in range(3)]

    refused = proving.by_secret(agent, secret)

    assert [answer.status_code for answer in given] == [200] * 3
    assert (refused.status_code, refused.json()["error"]) == (429, forms.BUSY)
    assert "oauth/revoke" in refused.json()["error_description"]
    assert "expires_in" in refused.json()["error_description"]
    assert 500 < int(refused["Retry-After"]) <= 600
    assert AccessToken.objects.filter(agent=agent).count() == 3
    denial = Denial.objects.get(gate="token: too many live")
    assert (denial.actor_label, denial.count) == (agent.name, 1)
    assert proving.by_secret(other, proving.secret(other, now=cast.now)).status_code == 200

    proving.ask({"token": given[0].json()["access_token"]}, path=proving.REVOKE)
    assert proving.by_secret(agent, secret).status_code == 200


def test_tokens_that_are_over_leave_room(cast, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_LIVE", 2)
    agent = builders.agent(cast)
    for _ in range(2):
        builders.token(cast, agent, ttl_s=60)
    later = cast.now + timedelta(seconds=60)

    with pytest.raises(tokens.TooManyLive) as caught:
        builders.token(cast, agent)
    assert caught.value.until == later
    with transaction.atomic():
        made = tokens.issue(holder=agent, ttl_s=60, now=later, source=tokens.Source())
    assert made.token.pk


def test_a_persons_tokens_of_before_signing_out_everywhere_leave_room(cast, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_LIVE", 2)
    for _ in range(2):
        builders.token(cast, cast.alice)
    with pytest.raises(tokens.TooManyLive):
        builders.token(cast, cast.alice)

    cast.alice.session_epoch += 1
    cast.alice.save(update_fields=["session_epoch"])

    assert builders.token(cast, cast.alice).token.epoch == cast.alice.session_epoch


def test_a_child_counts_like_its_parent(cast, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_LIVE", 2)
    parent = builders.token(cast, builders.agent(cast)).text.reveal().decode()
    form = {
        "grant_type": oauth.EXCHANGE,
        "subject_token": parent,
        "subject_token_type": oauth.ACCESS_TOKEN,
    }

    assert [proving.ask(form).status_code for _ in range(2)] == [200, 429]


@pytest.mark.django_db(transaction=True)
def test_of_many_that_ask_at_once_no_more_get_a_token_than_there_is_room(cast, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_LIVE", 3)
    agent, barrier, results = builders.agent(cast), threading.Barrier(8), []

    def ask():
        barrier.wait()
        try:
            with transaction.atomic():
                tokens.issue(holder=agent, ttl_s=600, now=timezone.now(), source=tokens.Source())
            results.append("token")
        except tokens.TooManyLive:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == ["refused"] * 5 + ["token"] * 3
    assert AccessToken.objects.filter(agent=agent).count() == 3
