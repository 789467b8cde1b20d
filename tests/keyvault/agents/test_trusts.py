"""Trusts and bindings: what they must say, and that their tokens end with them."""

from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.utils import timezone

from approvals.ports import NotVisible
from keyvault.agents import bindings, federation, issuers, services, tokens, trusts
from keyvault.agents.models import AccessToken, AgentState, Binding
from keyvault.audit.models import Denial, Event
from tests.keyvault.agents import builders, local_issuer
from tests.keyvault.agents.local_issuer import GITHUB, exchange, refusal

pytestmark = pytest.mark.django_db


def _change(trust, now, **changes):
    terms = local_issuer.Terms(**{**local_issuer.as_dict(trusts.terms(trust)), **changes})
    with transaction.atomic():
        return trusts.change(
            trust_id=trust.pk,
            revision=trust.revision,
            title="CI",
            terms=terms,
            actor=builders.TESTS,
            now=now,
        )


def _end(service, now, **which):
    with transaction.atomic():
        return service.end(cause="tests", actor=builders.TESTS, now=now, **which)


def test_a_token_that_fits_two_agents_must_say_which(cast, issuer, agent, trust):
    other = builders.agent(cast, "mail-bot")
    local_issuer.bound(trust, other, now=cast.now, claims={**GITHUB, "event_name": "push"})
    token = issuer.token(now=cast.now)

    assert refusal(token, now=cast.now) == "outside token: fits several agents"
    for each in (agent, other):
        for name in (each.name, str(each.pk)):
            found = federation.vouch(text=token, client_id=name, now=cast.now)
            assert found.agent == each
    assert refusal(token, now=cast.now, client_id="nobody") == "outside token: claims"


def test_a_suspended_agent_gets_nothing(cast, issuer, agent, trust):
    with transaction.atomic():
        services.set_state(
            agent_id=agent.pk,
            state=AgentState.SUSPENDED,
            cause="tests",
            actor=builders.TESTS,
            now=cast.now,
        )

    assert exchange(issuer.token(now=cast.now)).status_code == 400
    assert Denial.objects.get().gate == "token: suspended agent"


@pytest.mark.parametrize("what", ["binding", "trust", "change"])
def test_r65_what_ends_takes_its_tokens_along(cast, issuer, agent, trust, what):
    text = exchange(issuer.token(now=cast.now)).json()["access_token"]
    if what == "binding":
        _end(bindings, cast.now, binding_id=Binding.objects.get().pk)
    elif what == "trust":
        _end(trusts, cast.now, trust_id=trust.pk)
    else:
        _change(trust, cast.now, jwks_url=f"{issuer.url}/keys")

    with pytest.raises(tokens.BadToken):
        tokens.authenticate(text, now=timezone.now())
    again = exchange(issuer.token(now=cast.now))
    assert again.status_code == (200 if what == "change" else 400)
    assert Event.objects.filter(event="token.ended").count() == 1
    name = {"binding": "binding.ended", "trust": "trust.ended", "change": "trust.changed"}[what]
    assert Event.objects.filter(event=name).count() == 1


def test_new_terms_begin_without_the_keys_of_the_old(cast, issuer, trust):
    federation.vouch(text=issuer.token(now=cast.now), client_id="", now=cast.now)
    _change(trust, cast.now, jwks_url=f"{issuer.url}/other")

    assert refusal(issuer.token(now=cast.now), now=cast.now) == "issuer: out of reach"
    assert issuer.asked[-1] == "/other"


@pytest.mark.parametrize("what", ["change", "end"])
def test_what_is_changed_between_proof_and_token_leaves_no_token(
    cast, issuer, trust, monkeypatch, what
):
    vouch = federation.vouch

    def vouch_then_lose(**given):
        found = vouch(**given)
        if what == "change":
            _change(trust, cast.now, audience="https://new.example")
        else:
            _end(trusts, cast.now, trust_id=trust.pk)
        return found

    monkeypatch.setattr(federation, "vouch", vouch_then_lose)

    assert exchange(issuer.token(now=cast.now)).status_code == 400
    assert not AccessToken.objects.exists()
    assert Denial.objects.get().gate == "token: ended meanwhile"


@pytest.mark.django_db(transaction=True)
def test_no_token_slips_past_the_end_of_a_trust(cast, issuer, trust):
    issuers.key_sets.key(trust, issuer.signers[0].kid, now=cast.now)
    barrier, codes = threading.Barrier(13), []

    def job():
        try:
            barrier.wait()
            codes.append(exchange(issuer.token(now=cast.now)).status_code)
        finally:
            connection.close()

    def stop():
        try:
            barrier.wait()
            _end(trusts, cast.now, trust_id=trust.pk)
        finally:
            connection.close()

    threads = [threading.Thread(target=job) for _ in range(12)] + [threading.Thread(target=stop)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(codes) == 12
    assert not AccessToken.objects.filter(ended_at=None).exists()


def test_the_terms_of_a_trust_are_checked_where_they_are_written(cast, issuer, trust):
    with pytest.raises(trusts.BadTerms, match="wildcard"):
        local_issuer.trusted(issuer, now=cast.now, jwks_url=f"{issuer.url}/*")
    with pytest.raises(trusts.Taken):
        local_issuer.trusted(issuer, now=cast.now, slug="other")
    with pytest.raises(trusts.Taken):
        local_issuer.trusted(issuer, now=cast.now, audience="https://other.example")
    with pytest.raises(trusts.BadTerms, match="never change"):
        _change(trust, cast.now, kind="oidc")
    with pytest.raises(trusts.BadTerms, match="audience"):
        _change(trust, cast.now, audience="")
    changed = _change(trust, cast.now, audience="https://new.example")
    assert changed.revision == 2
    with pytest.raises(trusts.Changed):
        _change(trust, cast.now, audience="https://newer.example")
    _end(trusts, cast.now, trust_id=trust.pk)
    with pytest.raises(NotVisible):
        _end(trusts, cast.now, trust_id=trust.pk)
    with pytest.raises(NotVisible):
        _change(changed, cast.now)


def test_the_claims_of_a_binding_are_checked_where_they_are_written(cast, issuer, agent, trust):
    other = builders.agent(cast, "mail-bot")

    with pytest.raises(bindings.BadClaims, match="bound already"):
        local_issuer.bound(trust, other, now=cast.now)
    with pytest.raises(bindings.BadClaims, match="Pin environment"):
        local_issuer.bound(trust, agent, now=cast.now, claims={"repository_id": "74"})
    claims = {**GITHUB, "iss": "https://other.example"}
    with pytest.raises(bindings.BadClaims, match="iss must be the issuer"):
        local_issuer.bound(trust, agent, now=cast.now, claims=claims)
    _end(trusts, cast.now, trust_id=trust.pk)
    with pytest.raises(NotVisible):
        local_issuer.bound(trust, other, now=cast.now)


def test_trusts_and_bindings_are_in_the_ledger_with_their_terms(cast, issuer, agent, trust):
    made = Event.objects.get(event="trust.created")
    bound = Event.objects.get(event="binding.created")

    assert made.fields["issuer"] == issuer.url
    assert made.fields["allowed_hosts"] == [issuer.url]
    assert (bound.subject_id, bound.fields["claims"]) == (str(agent.pk), GITHUB)
