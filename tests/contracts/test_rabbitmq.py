"""The RabbitMQ provider before a real server: every promise, and what is its own.

Run by `./kv test -m servers tests/contracts/test_rabbitmq.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import call
from keyvault.providers.base import Ambiguous, Misconfigured, RemoteKey, Verdict
from keyvault.providers.rabbitmq import RabbitMQ
from keyvault.providers.testing import Fault, FaultProxy, ProviderConformance, listed, make, recover
from keyvault.providers.testing.bench import prepare
from tests import certificates
from tests.contracts.rabbitmq_server import RabbitBench, RabbitTarget, path_of, rabbitmq

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitTarget]:
    with rabbitmq(tmp_path_factory.mktemp("rabbitmq")) as running:
        yield running


@pytest.fixture
def bench(target: RabbitTarget) -> Iterator[RabbitBench]:
    with FaultProxy("127.0.0.1", target.http) as proxy:
        yield RabbitBench.at(target, proxy)
    target.clean()


class TestRabbitMQ(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""

    # The server has no way to refuse a user for a while.
    test_suspend_can_be_undone = None


def _with(bench: RabbitBench, **options: str) -> RabbitBench:
    return replace(bench, options={**bench.options, **options})


def _verdict(bench: RabbitBench, issued) -> Verdict:
    return bench.provider.validate(bench.call(), issued).verdict


def test_a_key_has_the_rights_of_its_patterns_and_no_others(bench, target):
    issued = make(bench).issued
    with bench.session(issued) as session:
        assert session.declare("app-jobs")
        assert not session.declare("other")
    assert target.ask("GET", f"users/{issued.remote_id}")["tags"] == ["management"]
    target.ask("DELETE", "queues/%2F/app-jobs")


def test_no_key_can_make_itself_an_admin(bench):
    """A key seen as a Connection of its own: it may ask who it is and change nothing."""
    issued = make(bench).issued
    weak = replace(bench, config={**bench.config, "user": issued.remote_id}, admin=issued.material)
    (found,) = weak.provider.check(weak.call())
    assert "lacks the tag administrator" in found.sentence
    with pytest.raises(Exception, match="does not accept"):
        make(weak)


def test_the_server_is_told_a_hash_only(bench, target):
    made = make(bench)
    told = target.ask("GET", f"users/{made.issued.remote_id}")
    assert told["hashing_algorithm"] == "rabbit_password_hashing_sha256"
    assert made.issued.material["password"].reveal().decode() not in str(told)


def test_what_a_program_needs_to_connect_is_public(bench, target):
    target.ask("PUT", f"vhosts/{path_of('team/one')}")
    try:
        issued = make(_with(bench, vhost="team/one")).issued
        assert issued.public == {
            "username": issued.remote_id,
            "vhost": "team/one",
            "broker": f"amqp://127.0.0.1:{target.amqp}",
        }
        with bench.session(issued) as session:
            assert session.declare("app-jobs")
    finally:
        target.ask("DELETE", f"vhosts/{path_of('team/one')}")


def test_ending_the_old_connections_leaves_those_of_the_new_credential(bench):
    old = make(bench).issued
    new = make(bench, old).issued
    with bench.session(old) as before, bench.session(new) as after:
        bench.provider.revoke(bench.call(), old.key(), kill_sessions=True)
        assert not before.works()
        assert after.works()


def test_a_user_whose_connections_go_on_stays_until_it_is_revoked_for_good(bench, target):
    issued = make(bench).issued
    with bench.session(issued) as session:
        bench.provider.revoke(bench.call(), issued.key(), kill_sessions=False)
        assert session.works()
        assert _verdict(bench, issued) is Verdict.INVALID
        assert listed(bench) == {}
        assert target.users() == [issued.remote_id]
        bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
        assert not session.works()
    assert target.users() == []


def test_connections_are_closed_although_the_first_revocation_lost_its_answer(bench, target):
    """The user is gone by then, and what it has opened is found by its name."""
    issued = make(bench).issued
    with bench.session(issued) as session:
        with (
            bench.proxy.failing(Fault.LOSE_ANSWER, b"DELETE /api/users"),
            pytest.raises(Ambiguous),
        ):
            bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
        assert target.users() == []
        bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
        assert not session.works()


def test_a_server_that_goes_away_while_connections_close_leaves_the_end_open(bench):
    issued = make(bench).issued
    with (
        bench.proxy.failing(Fault.LOSE_REQUEST, b"GET /api/connections"),
        pytest.raises(Ambiguous),
    ):
        bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
    assert bench.struck()
    assert _verdict(bench, issued) is Verdict.INVALID


@pytest.mark.parametrize("cut", [b'"password_hash": ""', b"PUT /api/permissions"])
@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
def test_a_create_that_was_cut_short_has_made_nothing_that_works(bench, cut, fault):
    attempt = prepare(bench)
    with bench.proxy.failing(fault, cut), pytest.raises(Ambiguous):
        bench.provider.create(bench.call(), attempt)
    assert bench.struck()
    assert bench.provider.find(bench.call(), attempt) == []
    assert _verdict(bench, recover(bench, attempt).issued) is Verdict.VALID
    assert len(listed(bench)) == 1


def test_a_replay_never_leaves_the_user_without_its_password(bench):
    """Whoever logs in while a worker repeats its create is let in at each moment of it."""
    made = make(bench)
    for cut in (b"PUT /api/permissions", b"PUT /api/users"):
        with bench.proxy.failing(Fault.LOSE_REQUEST, cut), pytest.raises(Ambiguous):
            bench.provider.create(bench.call(), made.attempt)
        assert bench.struck()
        assert _verdict(bench, made.issued) is Verdict.VALID


def test_a_user_that_may_not_ask_any_more_is_not_taken_for_a_dead_one(bench, target):
    issued = make(bench).issued
    told = target.ask("GET", f"users/{issued.remote_id}")
    target.ask("PUT", f"users/{issued.remote_id}", {**told, "tags": ""})
    with bench.session(issued):
        assert _verdict(bench, issued) is Verdict.UNKNOWN


def test_a_wrong_password_is_invalid(bench):
    issued = replace(make(bench).issued, material={"password": Secret.of("wrong")})
    assert _verdict(bench, issued) is Verdict.INVALID


def test_last_use_counts_the_connections_of_one_credential(bench):
    provider, old = bench.provider, make(bench).issued
    new = make(bench, old).issued
    assert provider.last_use(bench.call(), old.key()).sessions == 0
    with bench.session(old):
        assert provider.last_use(bench.call(), old.key()).sessions == 1
        assert provider.last_use(bench.call(), new.key()).sessions == 0


@pytest.mark.parametrize("user", ["keyvault", "root_mq", "kv-", "kv-x", "../whoami"])
def test_a_user_that_keyvault_did_not_make_is_never_touched(bench, target, user):
    before = target.ask("GET", "users")
    key = RemoteKey(user, tag=user)
    bench.provider.revoke(bench.call(), key, kill_sessions=True)
    bench.provider.revoke(bench.call(), key, kill_sessions=False)
    assert target.ask("GET", "users") == before
    assert listed(bench) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"vhost": "missing"},
        {"vhost": "a\nb"},
        {"configure": "", "write": "", "read": ""},
        {"write": "a\x00b"},
        {"read": "x" * 300},
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_changes(bench, target, options):
    with pytest.raises(Misconfigured):
        prepare(_with(bench, **options))
    assert target.users() == []


def test_a_pattern_that_the_server_refuses_leaves_nothing_that_works(bench):
    with pytest.raises(Misconfigured):
        make(_with(bench, read="(unclosed"))
    assert listed(bench) == {}


def test_check_finds_nothing_against_the_documented_rights(bench):
    assert bench.provider.check(bench.call()) == []


def test_check_names_a_wrong_password_and_a_virtual_host_that_lacks(bench):
    wrong = replace(bench, admin={"password": Secret.of("wrong")})
    (found,) = wrong.provider.check(wrong.call())
    assert "does not accept the credential" in found.sentence
    (found,) = bench.provider.check(_with(bench, vhost="missing").call())
    assert "no virtual host missing" in found.sentence


def test_check_names_a_server_that_is_too_old(bench):
    """Before 3.10.8 connections could not be asked for by user."""
    reply = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with bench.proxy.failing(Fault.REPLY, b"GET /api/connections/username", reply):
        (found,) = bench.provider.check(bench.call())
    assert "older than RabbitMQ 3.10.8" in found.sentence


def test_with_tls_the_server_is_checked(target, tmp_path):
    def at(authority: str):
        guard = outbound.Guard((outbound.Allowance.parse(f"localhost:{target.https}"),))
        return call(
            guard,
            timeout_s=10,
            config={
                "url": f"https://localhost:{target.https}",
                "user": target.admin,
                "ca": authority,
            },
            options={"vhost": "/", "write": ".*"},
            admin={"password": Secret.of(target.admin_password)},
        )

    provider = RabbitMQ()
    assert provider.check(at(target.authority.read_text())) == []
    for other in ("", certificates.make(tmp_path, "localhost").path.read_text()):
        assert provider.check(at(other))
