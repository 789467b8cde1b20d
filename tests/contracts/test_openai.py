"""The OpenAI provider before a fake of the vendor's server: every promise, and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Denied,
    Misconfigured,
    NotFound,
    Proposes,
    RemoteKey,
    ReportsUse,
    Transient,
    Verdict,
)
from keyvault.providers.openai import OpenAI
from keyvault.providers.testing import FaultProxy, ProviderConformance, is_listed, listed, make
from keyvault.providers.testing.bench import prepare
from tests.contracts.vendors.benches import openai_bench
from tests.contracts.vendors.http_bench import HttpBench
from tests.contracts.vendors.openai_server import OpenAIServer
from tests.contracts.vendors.server import serving


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(OpenAIServer()) as running:
        yield running


@pytest.fixture
def bench(server: OpenAIServer) -> Iterator[HttpBench]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield openai_bench(server, proxy)


class TestOpenAI(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""

    # What its kind cannot do is no promise of it.
    test_suspend_can_be_undone = None
    test_revoke_ends_sessions_only_when_told = None


def _project(bench, server):
    return server.projects[bench.config["project"]]


def test_a_key_is_found_however_many_pages_come_before_it(bench, server):
    made = make(bench)
    for number in range(230):
        server.add_person_key(_project(bench, server), f"person {number}")
    server.asked.clear()

    found = bench.provider.find(bench.call(), made.attempt)

    assert [key.remote_id for key in found] == [made.issued.remote_id]
    assert len(server.asked) == 3, "100 keys a page"
    everything = listed(bench)
    assert len(everything) == 231
    assert [key.tag for key in everything.values() if key.tag] == [made.attempt.tag]


def test_an_orphan_is_found_while_its_account_has_no_access(bench, server):
    """The vendor's listing leaves such keys out unless it is asked for all."""
    made = make(bench)
    server.without_access.add(bench.options["service_account"])

    [found] = bench.provider.find(bench.call(), made.attempt)

    assert (found.remote_id, found.is_enabled) == (made.issued.remote_id, None)
    assert is_listed(bench, made.issued)


def test_keys_of_other_projects_are_neither_listed_nor_ended(bench, server):
    made = make(bench)
    other = replace(bench, config={"project": server.add_project("other").id})

    assert listed(other) == {}
    other.provider.revoke(other.call(), made.issued.key(), kill_sessions=True)

    assert is_listed(bench, made.issued)


def test_two_accounts_of_a_project_have_keys_of_their_own(bench, server):
    second = server.add_account(_project(bench, server), "second")
    first_key = make(bench).issued
    second_key = make(replace(bench, options={"service_account": second})).issued

    owners = {
        key.id: key.owner["service_account"]["id"] for key in _project(bench, server).keys.values()
    }
    assert owners[first_key.remote_id] == bench.options["service_account"]
    assert owners[second_key.remote_id] == second
    assert second_key.public["service_account"] == second


def test_the_vendor_says_when_a_key_was_used(bench):
    assert isinstance(bench.provider, ReportsUse)
    issued = make(bench).issued
    assert bench.provider.last_use(bench.call(), issued.key()).at is None

    bench.provider.validate(bench.call(), issued)

    at = bench.provider.last_use(bench.call(), issued.key()).at
    assert at is not None
    assert abs(datetime.now(tz=UTC) - at) < timedelta(minutes=1)
    assert listed(bench)[issued.remote_id].last_used_at == at
    with pytest.raises(NotFound):
        bench.provider.last_use(bench.call(), RemoteKey("key_gone"))
    with pytest.raises(NotFound):
        bench.provider.last_use(bench.call(), RemoteKey("../service_accounts"))


def test_scopes_and_the_end_are_the_vendors(bench, server):
    asked = replace(
        bench, options={**bench.options, "scopes": "api.model.read  x.y", "expires_days": "30"}
    )
    issued = make(asked).issued

    key = _project(bench, server).keys[issued.remote_id]
    assert key.scopes == ("api.model.read", "x.y")
    assert issued.expires_at is not None
    assert issued.expires_at.timestamp() == key.created_at + 30 * 86_400
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.VALID


def test_a_key_that_may_not_list_models_is_no_verdict(bench):
    narrow = replace(bench, options={**bench.options, "scopes": "x.y"})
    issued = make(narrow).issued

    found = bench.provider.validate(bench.call(), issued)

    assert found.verdict is Verdict.UNKNOWN
    assert "scopes" in found.detail


@pytest.mark.parametrize(
    "options",
    [
        {"service_account": ""},
        {"service_account": "../../admin_api_keys"},
        {"scopes": "two words;"},
        {"expires_days": "366"},
        {"expires_days": "-1"},
    ],
)
def test_settings_that_cannot_work_send_nothing(bench, server, options):
    wrong = replace(bench, options={**bench.options, **options})
    with pytest.raises(Misconfigured):
        prepare(wrong)
    assert server.asked == []


def test_an_account_that_is_gone_is_found_out_before_anything_is_made(bench, server):
    wrong = replace(bench, options={"service_account": "svc_acct_none"})
    with pytest.raises(NotFound, match="svc_acct_none"):
        prepare(wrong)
    [problem] = wrong.provider.check(wrong.call())
    assert "service account" in problem.mend


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Misconfigured),
        (401, Denied),
        (403, Denied),
        (404, NotFound),
        (422, Misconfigured),
        (302, Misconfigured),
        (408, Ambiguous),
        (500, Ambiguous),
        (503, Ambiguous),
    ],
)
def test_each_refusal_of_a_create_says_what_may_have_happened(bench, server, status, error):
    attempt = prepare(bench)
    server.fail(status)
    with pytest.raises(error, match=str(status)) as caught:
        bench.provider.create(bench.call(), attempt)
    assert "on purpose" not in str(caught.value)
    server.fail(500)
    with pytest.raises(Transient):
        bench.provider.find(bench.call(), attempt)
    assert bench.provider.find(bench.call(), attempt) == []


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("99999", 3600.0), ("soon", None), ("", None)]
)
def test_too_many_requests_change_nothing_and_say_how_long_to_wait(bench, server, header, seconds):
    attempt = prepare(bench)
    server.limit(retry_after=header)
    with pytest.raises(Transient) as caught:
        bench.provider.create(bench.call(), attempt)
    assert caught.value.retry_after_s == seconds
    assert bench.provider.find(bench.call(), attempt) == []


def test_a_limit_while_trying_is_no_verdict(bench, server):
    issued = make(bench).issued
    server.limit()
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.UNKNOWN
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.VALID


def test_an_admin_key_that_may_only_read_is_denied(bench, server):
    reader = replace(bench, admin={"admin_key": Secret.of(server.reader)})
    attempt = prepare(reader)
    with pytest.raises(Denied, match="lacks a right"):
        reader.provider.create(reader.call(), attempt)


@pytest.mark.parametrize("value", ["", "sk-admin-\u20ac-canary", "sk admin canary", "sk\r\nx: y"])
def test_an_admin_key_that_no_header_holds_is_not_sent_or_repeated(bench, server, value):
    wrong = replace(bench, admin={"admin_key": Secret.of(value)})
    [problem] = wrong.provider.check(wrong.call())
    assert "admin key is missing" in problem.sentence
    assert "canary" not in problem.sentence
    assert server.asked == []


def test_a_check_names_what_is_wrong_without_the_vendors_words(bench, server):
    wrong = replace(bench, admin={"admin_key": Secret.of("sk-admin-canary")})
    [problem] = wrong.provider.check(wrong.call())
    assert "401" in problem.sentence
    assert "canary" not in problem.sentence + problem.mend

    unknown = replace(bench, config={"project": "proj_none"})
    [problem] = unknown.provider.check(unknown.call())
    assert "proj_none" in problem.sentence

    _project(bench, server).status = "archived"
    [problem] = bench.provider.check(bench.call())
    assert "archived" in problem.sentence


def test_a_revoke_at_the_wrong_organisation_is_no_success(bench):
    """Its "no such key" only says that nothing is visible there."""
    issued = make(bench).issued
    elsewhere = replace(bench, config={"project": "proj_of_others"})
    with pytest.raises(Misconfigured, match="proj_of_others"):
        elsewhere.provider.revoke(elsewhere.call(), issued.key(), kill_sessions=True)
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.VALID


@pytest.mark.parametrize("answer", [{"id": "key_1"}, {"id": "a/b", "value": "v"}, {"value": "v"}])
def test_an_answer_without_a_usable_key_is_ambiguous(bench, server, monkeypatch, answer):
    attempt = prepare(bench)
    monkeypatch.setattr(server, "create", lambda *_: answer)
    with pytest.raises(Ambiguous):
        bench.provider.create(bench.call(), attempt)


@pytest.mark.parametrize(
    "answer", [[], {}, {"data": "x"}, {"data": ["x"]}, {"data": [{"id": "a/b"}]}]
)
def test_a_listing_that_makes_no_sense_is_no_listing(bench, server, monkeypatch, answer):
    monkeypatch.setattr(server, "keys", lambda *_: answer)
    with pytest.raises(Transient):
        bench.provider.inventory(bench.call(), None)


def test_a_listing_that_leads_back_to_itself_is_left(bench, server, monkeypatch):
    page = {
        "object": "list",
        "data": [{"id": "key_1", "name": "x"}],
        "last_id": "key_1",
        "has_more": True,
    }
    monkeypatch.setattr(server, "keys", lambda *_: page)
    attempt = prepare(bench)
    with pytest.raises(Transient, match="does not go on"):
        bench.provider.find(bench.call(), attempt)


def test_the_connections_account_fills_new_keys():
    assert isinstance(OpenAI(), Proposes)
    assert OpenAI().propose({"service_account": "svc_a"}, "x") == {"service_account": "svc_a"}
    assert OpenAI().propose({}, "x") == {}
