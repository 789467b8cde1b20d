"""The Anthropic provider before a fake of the vendor's server: a person creates, calls do the rest.

The public suite runs over `AnthropicByHand`, in which the person's part is played by the
fake's console; what only a person meets (a wrong value, a wrong name) is tested below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.anthropic import Anthropic
from keyvault.providers.base import (
    Adopts,
    Denied,
    Instructs,
    Misconfigured,
    NotFound,
    ProviderError,
    RemoteKey,
    Shape,
    Suspends,
    Transient,
    Unsupported,
    Verdict,
)
from keyvault.providers.testing import FaultProxy, ProviderConformance, is_listed, listed, make
from keyvault.providers.testing.bench import prepare
from tests.contracts.vendors.anthropic_server import AnthropicServer
from tests.contracts.vendors.benches import anthropic_bench
from tests.contracts.vendors.http_bench import HttpBench
from tests.contracts.vendors.server import serving


@pytest.fixture
def server() -> Iterator[AnthropicServer]:
    with serving(AnthropicServer()) as running:
        yield running


@pytest.fixture
def bench(server: AnthropicServer) -> Iterator[HttpBench]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield anthropic_bench(server, proxy)


@pytest.fixture
def own(bench: HttpBench) -> HttpBench:
    """The same bench with nobody to play the person."""
    return replace(bench, provider=Anthropic())


class TestAnthropic(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""

    # What its kind cannot do is no promise of it.
    test_revoke_ends_sessions_only_when_told = None


def _adopt(bench, attempt, value):
    return bench.provider.adopt(bench.call(), attempt, {"api_key": Secret.of(value)})


def _workspace(bench):
    return bench.config["workspace"]


def test_a_person_creates_and_calls_do_the_rest(own):
    provider = own.provider
    can = provider.capabilities(own.call())
    assert isinstance(provider, Adopts)
    assert isinstance(provider, Instructs)
    assert isinstance(provider, Suspends)
    assert (can.shape, can.is_all_by_hand) == (Shape.MANUAL, False)
    with pytest.raises(Unsupported, match="A person creates"):
        provider.create(own.call(), prepare(own))
    assert _workspace(own) in " ".join(provider.instructions(own.call(), "create"))


def test_a_key_that_was_made_by_hand_is_taken_tried_and_ended(own, server):
    attempt = prepare(own)
    key_id, value = server.make_key(attempt.tag, _workspace(own))

    issued = _adopt(own, attempt, f"  {value}\n")

    assert (issued.remote_id, issued.tag) == (key_id, attempt.tag)
    assert issued.material["api_key"].reveal().decode() == value
    assert value not in str(issued.to_json()) + repr(issued)
    assert own.provider.validate(own.call(), issued).verdict is Verdict.VALID
    own.provider.revoke(own.call(), issued.key(), kill_sessions=True)
    assert own.provider.validate(own.call(), issued).verdict is Verdict.INVALID
    assert server.keys[key_id].status == "archived"


def test_a_key_of_another_name_is_not_taken(own, server):
    """It could be one that others use: to revoke it later would stop them."""
    attempt = prepare(own)
    _, value = server.make_key("production", _workspace(own))

    with pytest.raises(Misconfigured, match=attempt.tag) as caught:
        _adopt(own, attempt, value)

    assert value not in str(caught.value)


def test_a_value_that_is_not_the_named_keys_is_not_taken(own, server):
    attempt = prepare(own)
    server.make_key(attempt.tag, _workspace(own))
    _, other = server.make_key("production", _workspace(own))

    with pytest.raises(Misconfigured, match="is not that of the key") as caught:
        _adopt(own, attempt, other)

    assert other not in str(caught.value)


def test_a_value_that_only_resembles_the_key_is_tried_and_refused(own, server):
    attempt = prepare(own)
    _, value = server.make_key(attempt.tag, _workspace(own))
    typo = value[:30] + ("x" if value[30] != "x" else "y") + value[31:]

    with pytest.raises(Misconfigured, match="does not accept") as caught:
        _adopt(own, attempt, typo)

    assert typo not in str(caught.value)


def test_two_keys_of_the_name_and_one_that_is_switched_off_are_not_taken(own, server):
    attempt = prepare(own)
    key_id, value = server.make_key(attempt.tag, _workspace(own))
    server.make_key(attempt.tag, _workspace(own))
    with pytest.raises(Misconfigured, match="Several"):
        _adopt(own, attempt, value)
    for key in server.keys.values():
        key.status = "inactive"
    with pytest.raises(Misconfigured, match="No active key"):
        _adopt(own, attempt, value)
    server.keys[key_id].status = "active"
    server.keys[key_id].hint = ""
    with pytest.raises(Misconfigured, match="shown there as nothing"):
        _adopt(own, attempt, value)


@pytest.mark.parametrize("value", ["", " ", "sk-ant-\u20ac-canary", "sk-ant canary", "a\r\nb: c"])
def test_a_value_that_no_header_holds_is_not_sent_or_repeated(own, server, value):
    attempt = prepare(own)
    server.asked.clear()
    with pytest.raises(Misconfigured, match="missing or holds spaces") as caught:
        _adopt(own, attempt, value)
    assert "canary" not in str(caught.value)
    assert server.asked == []


def test_an_outage_while_handing_over_takes_nothing(own, server):
    attempt = prepare(own)
    _, value = server.make_key(attempt.tag, _workspace(own))
    server.fail(529)
    with pytest.raises(Transient, match="529"):
        _adopt(own, attempt, value)
    with own.down(), pytest.raises(Transient):
        _adopt(own, attempt, value)
    assert _adopt(own, attempt, value)


def test_a_key_whose_value_never_arrived_is_found_by_its_name(own, server):
    attempt = prepare(own)
    for number in range(150):
        server.make_key(f"other {number}", _workspace(own))
    key_id, _ = server.make_key(attempt.tag, _workspace(own))
    for number in range(150):
        server.make_key(f"later {number}", _workspace(own))
    server.asked.clear()

    [found] = own.provider.find(own.call(), attempt)

    assert found.remote_id == key_id
    assert len(server.asked) == 4, "100 keys a page"
    assert len(listed(own)) == 301


def test_other_workspaces_are_not_listed(own, server):
    elsewhere, _ = server.make_key("kv-0123456789-1", server.add_workspace())
    assert listed(own) == {}
    everywhere = replace(own, config={})
    assert set(listed(everywhere)) == {elsewhere}


def test_suspend_and_resume_send_only_what_changes(bench, server):
    issued = make(bench).issued
    provider, key = bench.provider, server.keys[issued.remote_id]

    provider.suspend(bench.call(), issued.key())
    assert key.status == "inactive"
    assert not is_listed(bench, issued)
    server.asked.clear()
    provider.suspend(bench.call(), issued.key())
    assert server.asked == [f"GET /v1/organizations/api_keys/{key.id}"]
    provider.resume(bench.call(), issued.key())
    assert key.status == "active"
    key.status = "expired"
    with pytest.raises(NotFound, match="expired"):
        provider.resume(bench.call(), issued.key())
    with pytest.raises(NotFound):
        provider.suspend(bench.call(), RemoteKey("apikey_none"))


def test_a_suspended_key_can_be_ended_and_one_that_expired_needs_no_call(bench, server):
    first, second = make(bench).issued, make(bench).issued
    bench.provider.suspend(bench.call(), first.key())
    bench.provider.revoke(bench.call(), first.key(), kill_sessions=True)
    assert server.keys[first.remote_id].status == "archived"

    server.keys[second.remote_id].status = "expired"
    bench.provider.revoke(bench.call(), second.key(), kill_sessions=True)
    assert server.keys[second.remote_id].status == "expired"


def test_an_ordinary_key_is_no_admin_key(own, server):
    _, value = server.make_key("ordinary", _workspace(own))
    wrong = replace(own, admin={"admin_key": Secret.of(value)})
    [problem] = wrong.provider.check(wrong.call())
    assert "403" in problem.sentence
    assert "Admin API key" in problem.mend
    with pytest.raises(Denied):
        wrong.provider.inventory(wrong.call(), None)


def test_nothing_of_the_vendors_words_passes_on(own, server):
    wrong = replace(own, admin={"admin_key": Secret.of("sk-ant-admin-canary")})
    for act in (
        lambda: wrong.provider.inventory(wrong.call(), None),
        lambda: wrong.provider.revoke(wrong.call(), RemoteKey("apikey_1"), kill_sessions=True),
        lambda: wrong.provider.suspend(wrong.call(), RemoteKey("apikey_1")),
    ):
        with pytest.raises(ProviderError) as caught:
            act()
        assert "canary" not in str(caught.value)


def test_a_limit_says_how_long_to_wait_and_is_no_verdict(bench, server):
    issued = make(bench).issued
    server.limit(retry_after="12")
    with pytest.raises(Transient) as caught:
        bench.provider.inventory(bench.call(), None)
    assert caught.value.retry_after_s == 12
    server.limit()
    assert bench.provider.validate(bench.call(), issued).verdict is Verdict.UNKNOWN


def test_a_workspace_that_is_no_id_sends_nothing(own, server):
    wrong = replace(own, config={"workspace": "a&status=x"})
    with pytest.raises(Misconfigured):
        wrong.provider.inventory(wrong.call(), None)
    assert server.asked == []
