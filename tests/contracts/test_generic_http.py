"""A declared API before a server that no plug-in knows: every promise, and what is its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Conflict,
    Denied,
    Issued,
    Misconfigured,
    NotFound,
    RemoteKey,
    Transient,
    Verdict,
)
from keyvault.providers.generic_http import GenericHttp
from keyvault.providers.testing import FaultProxy, ProviderConformance, is_listed, listed, make
from keyvault.providers.testing.bench import prepare
from tests.contracts.vendors.declared_server import DeclaredServer
from tests.contracts.vendors.http_bench import HttpBench
from tests.contracts.vendors.server import Answer, serving

REQUESTS = {
    "parameters": ["role"],
    "create": {
        "method": "POST",
        "path": "/keys",
        "headers": {"x-admin-key": "{admin}"},
        "body": {"label": "{tag}", "role": "{role}"},
        "ok": [201],
        "id": "$.data.key.id",
        "value": "$.secrets[0].text",
    },
    "list": {
        "method": "GET",
        "path": "/keys",
        "query": {"after": "{cursor}"},
        "headers": {"x-admin-key": "{admin}"},
        "items": "$.data.keys",
        "id": "$.id",
        "name": "$.label",
        "enabled": "$.active",
        "next": "$.next",
    },
    "validate": {
        "path": "/whoami",
        "headers": {"Authorization": "Bearer {value}"},
        "principal": "$.key.label",
    },
    "revoke": {"path": "/keys/{id}", "headers": {"x-admin-key": "{admin}"}},
}


@pytest.fixture
def server() -> Iterator[DeclaredServer]:
    with serving(DeclaredServer()) as running:
        yield running


@pytest.fixture
def bench(server: DeclaredServer) -> Iterator[HttpBench]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield HttpBench(
            provider=GenericHttp(),
            proxy=proxy,
            config={"requests": json.dumps(REQUESTS)},
            options={"parameters": "role = reader"},
            admin={"admin": Secret.of(server.admin)},
            change=rb'"label"|DELETE /',
            path="/v1/accounts/42",
        )


class TestGenericHttp(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""

    # What its kind cannot do is no promise of it.
    test_suspend_can_be_undone = None
    test_revoke_ends_sessions_only_when_told = None


def declared(bench, part, **changes):
    """Return the bench with other members in one of the requests; None takes one away."""
    members = {**REQUESTS[part], **changes}
    members = {name: value for name, value in members.items() if value is not None}
    return replace(bench, config={"requests": json.dumps({**REQUESTS, part: members})})


PAGED = {"query": {"page": "{page}"}, "next": None}
SEARCHED = {"method": "POST", "path": "/keys/search", "query": {}, "body": {"after": "{cursor}"}}


@pytest.mark.parametrize("listing", [{}, PAGED, SEARCHED], ids=["cursor", "number", "post"])
@pytest.mark.parametrize("count", [0, 9, 10, 25])
def test_a_key_is_found_however_the_list_is_asked_for(bench, server, listing, count):
    for number in range(count):
        server.add(f"person {number}")
    other = declared(bench, "list", **listing)
    made = make(other)

    found = other.provider.find(other.call(), made.attempt)

    assert [key.remote_id for key in found] == [made.issued.remote_id]
    assert len(listed(other)) == count + 1


def test_what_a_key_chose_is_sent_and_the_trial_names_the_key(bench, server):
    made = make(replace(bench, options={"parameters": "\n role=writer \n"}))
    assert server.keys[made.issued.remote_id].role == "writer"
    found = bench.provider.validate(bench.call(), made.issued)
    assert (found.verdict, found.principal) == (Verdict.VALID, made.attempt.tag)


def test_no_secret_stands_in_an_address(bench, server):
    made = make(bench)
    bench.provider.validate(bench.call(), made.issued)
    listed(bench)
    bench.provider.revoke(bench.call(), made.issued.key(), kill_sessions=True)
    addresses = str([server.asked, server.queries])
    assert "/keys/k" in addresses
    for secret in (server.admin, made.issued.material["value"].reveal().decode()):
        assert secret not in addresses


@pytest.mark.parametrize(
    "text", ["", "role", "role =", "role = reader\nrole = writer", "role = reader\nteam = a"]
)
def test_a_key_gives_each_parameter_once(bench, server, text):
    with pytest.raises(Misconfigured, match="parameter"):
        prepare(replace(bench, options={"parameters": text}))
    assert not server.keys


def test_a_value_never_leaves_its_text(bench, server):
    """What looks like JSON or another template is sent as it was typed, and refused there."""
    attempt = prepare(bench)
    cunning = replace(bench, options={"parameters": 'role = reader", "admin": "{admin}'})
    with pytest.raises(Misconfigured, match="400"):
        cunning.provider.create(cunning.call(), attempt)
    assert not server.keys


@pytest.mark.parametrize("remote_id", ["", ".", ".."])
def test_an_id_that_would_be_another_path_is_refused(bench, server, remote_id):
    server.asked.clear()
    with pytest.raises(Misconfigured, match="path"):
        bench.provider.revoke(bench.call(), RemoteKey(remote_id), kill_sessions=True)
    assert server.asked == []


def test_a_value_that_fits_into_no_header_is_no_verdict_and_is_not_repeated(bench):
    odd = Issued("k1", material={"value": Secret.of("line\r\nx-admin-key: stolen")})
    found = bench.provider.validate(bench.call(), odd)
    assert found.verdict is Verdict.UNKNOWN
    assert "stolen" not in repr(found)


def test_an_address_that_is_not_there_is_no_proof_that_a_key_ended(bench):
    issued = make(bench).issued
    lost = replace(bench, path="/v1/accounts/43")
    with pytest.raises(NotFound):
        lost.provider.revoke(lost.call(), issued.key(), kill_sessions=True)
    assert is_listed(bench, issued)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (202, Ambiguous),
        (303, Ambiguous),
        (400, Misconfigured),
        (403, Denied),
        (409, Conflict),
        (429, Transient),
        (500, Ambiguous),
    ],
)
def test_each_answer_to_a_change_asks_for_its_own_reaction(bench, server, status, kind):
    attempt = prepare(bench)
    server.faults.append(Answer(status, {}))
    with pytest.raises(kind):
        bench.provider.create(bench.call(), attempt)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {"data": {"key": {"id": "k1"}}, "secrets": []},
        {"data": {"key": {"id": True}}, "secrets": [{"text": "v"}]},
        {"data": {"key": {"id": "x" * 201}}, "secrets": [{"text": "v"}]},
        {"data": {"key": {"id": "key-v-1"}}, "secrets": [{"text": "v-1"}]},
        {"data": {"key": {"id": "k1"}}, "secrets": [{"text": {"a": "b"}}]},
    ],
)
def test_a_create_whose_answer_is_of_no_use_may_have_happened(bench, server, body):
    attempt = prepare(bench)
    server.faults.append(Answer(201, body))
    with pytest.raises(Ambiguous):
        bench.provider.create(bench.call(), attempt)


@pytest.mark.parametrize("status", [302, 400, 403, 404, 429, 500])
def test_only_declared_answers_are_a_verdict(bench, server, status):
    issued = make(bench).issued
    server.fail(status)
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.UNKNOWN


def test_a_list_that_gives_the_same_page_again_is_not_followed(bench, server):
    server.add("person")
    page = {"data": {"keys": [next(iter(server.keys.values())).shown()]}, "next": "7"}
    server.faults.extend([Answer(200, page)] * 5)
    with pytest.raises(Transient, match="same page"):
        listed(bench)
    server.faults.clear()
    server.faults.extend([Answer(200, page)] * 5)
    with pytest.raises(Transient, match="same page"):
        listed(declared(bench, "list", **PAGED))


@pytest.mark.parametrize(
    "body", [None, {"data": {}}, {"data": {"keys": {}}}, {"data": {"keys": [{"label": "kv-a-1"}]}}]
)
def test_a_list_that_makes_no_sense_is_not_an_empty_one(bench, server, body):
    server.faults.append(Answer(200, body))
    with pytest.raises(Transient):
        listed(bench)


def test_check_names_a_fault_of_the_requests_and_of_the_credential(bench):
    [problem] = bench.provider.check(declared(bench, "revoke", path="/keys").call())
    assert "must send {id}" in problem.sentence
    assert "generic-http.md" in problem.mend
    wrong = replace(bench, admin={"admin": Secret.of("wrong")})
    [problem] = bench.provider.check(wrong.call())
    assert "lacks a right" in problem.sentence


@pytest.mark.parametrize(
    "url", ["", "ftp://example.com", "https://u:p@example.com", "https://example.com/?key=1"]
)
def test_an_address_is_a_plain_one(bench, url):
    other = replace(bench, config={**bench.config, "url": url})
    [problem] = bench.provider.check(other.call())
    assert "must be such as https://" in problem.sentence


def test_an_inner_address_is_reached_only_where_it_is_allowed(bench):
    inner = replace(bench, config={**bench.config, "url": "http://169.254.169.254/latest"})
    [problem] = bench.provider.check(inner.call())
    assert "169.254.169.254" in problem.sentence
