"""The Cloudflare provider before a fake of the vendor's server: every promise, and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    RemoteKey,
    ReportsUse,
    Transient,
    Verdict,
)
from keyvault.providers.cloudflare import Cloudflare
from keyvault.providers.testing import FaultProxy, ProviderConformance, is_listed, listed, make
from keyvault.providers.testing.bench import prepare
from tests.contracts.vendors.cloudflare_server import DNS_READ, TOKENS_WRITE, CloudflareServer
from tests.contracts.vendors.http_bench import HttpBench
from tests.contracts.vendors.server import Answer, serving

ELSEWHERE = "0" * 32


@pytest.fixture
def server() -> Iterator[CloudflareServer]:
    with serving(CloudflareServer()) as running:
        yield running


@pytest.fixture
def bench(server: CloudflareServer) -> Iterator[HttpBench]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield HttpBench(
            provider=Cloudflare(),
            proxy=proxy,
            config={"account": server.add_account().id},
            options={"permission_groups": DNS_READ},
            admin={"api_token": Secret.of(server.admin)},
            change=rb'"name"|DELETE /',
            path="/client/v4",
        )


class TestCloudflare(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""

    # What its kind cannot do is no promise of it.
    test_suspend_can_be_undone = None
    test_revoke_ends_sessions_only_when_told = None


def _account(bench, server):
    return server.accounts[bench.config["account"]]


def _with(bench, **options):
    return replace(bench, options={**bench.options, **options})


def test_a_token_is_found_however_many_pages_come_before_it(bench, server):
    for number in range(120):
        server.add_token(_account(bench, server), f"person {number}")
    made = make(bench)
    server.asked.clear()

    found = bench.provider.find(bench.call(), made.attempt)

    assert [key.remote_id for key in found] == [made.issued.remote_id]
    assert len(server.asked) == 3, "50 tokens a page"
    everything = listed(bench)
    assert len(everything) == 121
    assert [key.tag for key in everything.values() if key.tag] == [made.attempt.tag]


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 100])
def test_the_last_page_is_known_by_the_count(bench, server, count):
    for number in range(count):
        server.add_token(_account(bench, server), f"person {number}")
    assert len(listed(bench)) == count


def test_a_listing_that_a_deletion_has_moved_is_not_believed(bench, server):
    """Page numbers shift: the token on the border would be on neither page."""
    account = _account(bench, server)
    for number in range(60):
        server.add_token(account, f"person {number}")
    first = bench.provider.inventory(bench.call(), None)
    del account.tokens[next(iter(account.tokens))]

    with pytest.raises(Transient, match="changed while it was read"):
        bench.provider.inventory(bench.call(), first.cursor)
    assert len(listed(bench)) == 59


def test_a_token_may_do_what_its_key_says_and_no_more(bench, server):
    zone = f"com.cloudflare.api.account.zone.{ELSEWHERE}"
    issued = make(_with(bench, resources=zone, networks="203.0.113.0/24 2001:db8::/32")).issued

    made = _account(bench, server).tokens[issued.remote_id]

    assert [policy["effect"] for policy in made.policies] == ["allow"]
    assert made.policies[0]["permission_groups"] == [{"id": DNS_READ}]
    assert made.policies[0]["resources"] == {zone: "*"}
    assert made.condition == {"request_ip": {"in": ["203.0.113.0/24", "2001:db8::/32"]}}


def test_without_resources_a_token_is_for_its_own_account(bench, server):
    issued = make(bench).issued
    made = _account(bench, server).tokens[issued.remote_id]
    assert made.policies[0]["resources"] == {
        f"com.cloudflare.api.account.{bench.config['account']}": "*"
    }
    assert made.condition == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"permission_groups": ""}, "by their ids"),
        ({"permission_groups": "DNS Read"}, "by their ids"),
        ({"permission_groups": ELSEWHERE}, "no permission group"),
        ({"permission_groups": f"{DNS_READ} {TOKENS_WRITE}"}, "give itself every right"),
        ({"resources": "zone/*"}, "resources such as"),
        ({"networks": "203.0.113.7/24"}, "networks such as"),
        ({"networks": "office"}, "networks such as"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_made(
    bench, server, options, words
):
    with pytest.raises(Misconfigured, match=words):
        prepare(_with(bench, **options))
    assert not _account(bench, server).tokens


def test_a_token_of_another_account_is_neither_listed_nor_ended(bench, server):
    made = make(bench)
    other = replace(bench, config={"account": server.add_account().id})

    assert listed(other) == {}
    other.provider.revoke(other.call(), made.issued.key(), kill_sessions=True)

    assert is_listed(bench, made.issued)


def test_an_account_that_is_not_there_is_no_proof_that_a_token_ended(bench):
    made = make(bench)
    lost = replace(bench, config={"account": ELSEWHERE})
    with pytest.raises(NotFound):
        lost.provider.revoke(lost.call(), made.issued.key(), kill_sessions=True)
    assert is_listed(bench, made.issued)


@pytest.mark.parametrize("remote_id", ["verify", "permission_groups", "..", "a/value", ""])
def test_an_id_that_is_none_sends_nothing(bench, server, remote_id):
    server.asked.clear()
    bench.provider.revoke(bench.call(), RemoteKey(remote_id), kill_sessions=True)
    with pytest.raises(NotFound):
        bench.provider.last_use(bench.call(), RemoteKey(remote_id))
    assert server.asked == []


def test_a_value_is_never_renewed_in_place(bench, server):
    old = make(bench).issued
    new = make(bench, old).issued
    bench.provider.revoke(bench.call(), old.key(), kill_sessions=False)
    bench.provider.validate(bench.call(), new)
    assert not [asked for asked in server.asked if asked.endswith("/value")]


@pytest.mark.parametrize("status", ["disabled", "expired"])
def test_a_token_that_a_person_switched_off_is_invalid(bench, server, status):
    issued = make(bench).issued
    _account(bench, server).tokens[issued.remote_id].status = status
    found = bench.provider.validate(bench.call(), issued)
    assert (found.verdict, status in found.detail) == (Verdict.INVALID, True)
    assert listed(bench)[issued.remote_id].is_enabled is False


def test_a_word_that_is_unknown_and_another_tokens_name_are_no_verdict(bench, server):
    first, second = make(bench).issued, make(bench).issued
    mixed = replace(first, material=second.material)
    assert bench.provider.validate(bench.call(), mixed).verdict is Verdict.UNKNOWN
    _account(bench, server).tokens[first.remote_id].status = "sleeping"
    assert bench.provider.validate(bench.call(), first).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("status", [400, 403, 429, 500])
def test_a_refusal_of_the_question_is_no_verdict_on_the_token(bench, server, status):
    issued = make(bench).issued
    server.fail(status)
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Misconfigured), (403, Denied), (409, Conflict), (429, Transient), (500, Ambiguous)],
)
def test_each_refusal_of_a_create_asks_for_its_own_reaction(bench, server, status, kind):
    attempt = prepare(bench)
    server.fail(status)
    with pytest.raises(kind):
        bench.provider.create(bench.call(), attempt)


@pytest.mark.parametrize(
    "body",
    [
        {"success": False, "errors": [], "messages": [], "result": None},
        {"success": True, "result": {"id": "a" * 32}},
        {"success": True, "result": {"value": "x"}},
        {"success": True, "result": {"id": "../a", "value": "x"}},
        [],
    ],
)
def test_a_create_whose_answer_makes_no_sense_may_have_happened(bench, server, body):
    attempt = prepare(bench)
    server.faults.append(Answer(200, body))
    with pytest.raises(Ambiguous):
        bench.provider.create(bench.call(), attempt)


def test_last_use_is_the_vendors_word(bench):
    provider, issued = bench.provider, make(bench).issued
    assert isinstance(provider, ReportsUse)
    assert provider.last_use(bench.call(), issued.key()).at is None
    provider.validate(bench.call(), issued)
    seen = provider.last_use(bench.call(), issued.key()).at
    assert seen is not None
    assert seen.tzinfo is not None


def test_check_names_what_the_admin_token_lacks(bench):
    wrong = replace(bench, admin={"api_token": Secret.of("wrong")})
    [problem] = bench.provider.check(wrong.call())
    assert "lacks a right" in problem.sentence
    assert "Account API Tokens Write" in problem.mend
    unknown = replace(bench, config={"account": "shop"})
    [problem] = bench.provider.check(unknown.call())
    assert "must be its id" in problem.sentence


def test_a_token_that_may_only_read_makes_nothing(bench, server):
    weak = replace(bench, admin={"api_token": Secret.of(server.reader)})
    attempt = prepare(weak)
    with pytest.raises(Denied):
        bench.provider.create(weak.call(), attempt)
    assert not _account(bench, server).tokens
