"""The MariaDB provider before a real server: every promise, and what is its own.

Run by `./kv test -m servers tests/contracts/test_mariadb.py`.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pymysql
import pytest

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.context import call
from keyvault.providers.base import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    RemoteKey,
    Verdict,
)
from keyvault.providers.mariadb import MariaDB
from keyvault.providers.mariadb import provider as module
from keyvault.providers.testing import Fault, FaultProxy, ProviderConformance, listed, make, recover
from keyvault.providers.testing.bench import prepare
from tests import certificates
from tests.contracts.mariadb_server import MariaBench, MariaTarget, a_tag, mariadb

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaTarget]:
    with mariadb(tmp_path_factory.mktemp("mariadb")) as running:
        yield running


@pytest.fixture
def bench(target: MariaTarget) -> Iterator[MariaBench]:
    with FaultProxy("127.0.0.1", target.port) as proxy:
        yield MariaBench.at(target, proxy)
    target.clean()


class TestMariaDB(ProviderConformance):
    """The public suite; its `bench` is the fixture above."""


def _with(bench: MariaBench, **options: str) -> MariaBench:
    return replace(bench, options={**bench.options, **options})


def _verdict(bench: MariaBench, issued) -> Verdict:
    return bench.provider.validate(bench.call(), issued).verdict


def test_the_password_reaches_the_server_as_a_hash_only(bench, target):
    made = make(bench)
    log = target.log.read_bytes()
    assert f"CREATE USER IF NOT EXISTS '{made.attempt.tag}'".encode() in log
    assert made.issued.material["password"].reveal() not in log


def test_a_key_has_the_rights_of_its_role_and_no_others(bench):
    with bench.session(make(bench).issued) as session:
        session.run("INSERT INTO shop.visits VALUES ()")
        for statement in (
            "CREATE TABLE shop.more (id INT)",
            "CREATE USER another",
            "SELECT * FROM mysql.global_priv",
            "GRANT shop_app TO root_dba@'127.0.0.1'",
            "SET GLOBAL max_connections = 5",
        ):
            with pytest.raises(pymysql.Error):
                session.run(statement)


def test_ending_the_old_sessions_leaves_those_of_the_new_credential(bench):
    old = make(bench).issued
    new = make(bench, old).issued
    with bench.session(old) as before, bench.session(new) as after:
        bench.provider.revoke(bench.call(), old.key(), kill_sessions=True)
        assert not before.works()
        assert after.works()


def test_a_session_at_work_is_ended_too(bench, target):
    issued = make(bench).issued
    with bench.session(issued) as session:
        # Sent without waiting for the answer, which never comes.
        session.connection._execute_command(3, "SELECT SLEEP(60)")
        started_at = time.monotonic()
        bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
        assert time.monotonic() - started_at < 10
    assert target.accounts() == []


def test_sessions_that_may_not_be_ended_are_named_and_ended_once_they_may(bench, target):
    issued = make(bench).issued
    with bench.session(issued) as session:
        target.run("REVOKE CONNECTION ADMIN ON *.* FROM keyvault@'127.0.0.1'")
        try:
            with pytest.raises(Denied):
                bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
        finally:
            target.run("GRANT CONNECTION ADMIN ON *.* TO keyvault@'127.0.0.1'")
        assert _verdict(bench, issued) is Verdict.INVALID
        bench.provider.revoke(bench.call(), issued.key(), kill_sessions=True)
        assert not session.works()


def test_an_account_whose_sessions_go_on_stays_until_it_is_revoked_for_good(bench, target):
    made = make(bench)
    key = made.issued.key()
    with bench.session(made.issued) as session:
        bench.provider.revoke(bench.call(), key, kill_sessions=False)
        assert session.works()
        assert _verdict(bench, made.issued) is Verdict.INVALID
        assert listed(bench) == {}
        assert target.accounts() == [(key.remote_id, "%")]
        with pytest.raises(Conflict):
            bench.provider.create(bench.call(), made.attempt)
        with pytest.raises(NotFound):
            bench.provider.resume(bench.call(), key)
        bench.provider.revoke(bench.call(), key, kill_sessions=True)
    assert target.accounts() == []


@pytest.mark.parametrize("cut", [b"GRANT 'shop_app'", b"SET DEFAULT ROLE"])
@pytest.mark.parametrize("fault", [Fault.LOSE_REQUEST, Fault.LOSE_ANSWER])
def test_a_create_that_was_cut_short_is_completed_by_the_same_again(bench, cut, fault):
    attempt = prepare(bench)
    with bench.proxy.failing(fault, cut), pytest.raises(Ambiguous):
        bench.provider.create(bench.call(), attempt)
    assert bench.struck()
    assert _verdict(bench, recover(bench, attempt).issued) is Verdict.VALID
    assert len(listed(bench)) == 1


def test_an_account_without_its_role_is_no_valid_credential(bench, target):
    issued = make(bench).issued
    target.run(f"REVOKE shop_app FROM '{issued.remote_id}'@'%'")
    assert _verdict(bench, issued) is not Verdict.VALID


def test_a_server_that_goes_away_while_sessions_end_leaves_the_end_open(bench):
    issued = make(bench).issued
    with (
        bench.session(issued),
        bench.proxy.failing(Fault.HANG, b"PROCESSLIST"),
        pytest.raises(Ambiguous),
    ):
        bench.provider.revoke(bench.call(timeout_s=2), issued.key(), kill_sessions=True)
    assert _verdict(bench, issued) is Verdict.INVALID


def test_a_wrong_password_is_invalid(bench):
    issued = replace(make(bench).issued, material={"password": Secret.of("wrong")})
    assert _verdict(bench, issued) is Verdict.INVALID


def test_a_busy_server_says_nothing_against_a_credential(bench):
    limited = _with(bench, connection_limit="1")
    issued = make(limited).issued
    with bench.session(issued):
        assert _verdict(limited, issued) is Verdict.UNKNOWN


def test_last_use_counts_the_sessions_of_one_credential(bench):
    provider, old = bench.provider, make(bench).issued
    new = make(bench, old).issued
    assert provider.last_use(bench.call(), old.key()).at is None
    with bench.session(old):
        seen = provider.last_use(bench.call(), old.key())
        assert seen.sessions == 1
        assert abs(seen.at.timestamp() - time.time()) < 30
        assert provider.last_use(bench.call(), new.key()).sessions == 0


def test_a_suspended_credential_is_listed_as_off(bench):
    issued = make(bench).issued
    bench.provider.suspend(bench.call(), issued.key())
    assert [key.is_enabled for key in listed(bench).values()] == [False]


def test_an_inventory_of_many_pages_misses_nothing(bench, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 1)
    made = {make(bench).issued.remote_id for _ in range(3)}
    assert set(listed(bench)) == made


@pytest.mark.parametrize(
    "user", ["keyvault", "root_dba", "shop_app", "kv-", "kv-x", "kv-a' OR 1-1"]
)
def test_an_account_that_keyvault_did_not_make_is_never_touched(bench, target, user):
    before = target.run("SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2")
    key = RemoteKey(user, tag=user)
    bench.provider.revoke(bench.call(), key, kill_sessions=True)
    bench.provider.revoke(bench.call(), key, kill_sessions=False)
    with pytest.raises(NotFound):
        bench.provider.suspend(bench.call(), key)
    assert target.run("SELECT User, Host, Priv FROM mysql.global_priv ORDER BY 1, 2") == before
    assert listed(bench) == {}


@pytest.mark.parametrize(
    "options",
    [
        {"role": ""},
        {"role": "missing"},
        {"role": "PUBLIC"},
        {"role": "x' TO y; --"},
        {"role": "keyvault"},
        {"connection_limit": "many"},
        {"connection_limit": "-2"},
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_changes(bench, target, options):
    with pytest.raises(Misconfigured):
        prepare(_with(bench, **options))
    assert target.accounts() == []


def test_a_role_over_the_server_or_of_somebody_else_is_refused(bench, target):
    target.run(
        "CREATE ROLE over_all",
        "GRANT RELOAD ON *.* TO over_all",
        "GRANT over_all TO keyvault@'127.0.0.1' WITH ADMIN OPTION",
        "CREATE ROLE of_others",
    )
    try:
        with pytest.raises(Misconfigured, match="rights over the server"):
            prepare(_with(bench, role="over_all"))
        with pytest.raises(Misconfigured, match="WITH ADMIN OPTION"):
            prepare(_with(bench, role="of_others"))
    finally:
        target.run("DROP ROLE over_all, of_others")


def test_hosts_that_leave_keyvault_out_are_named(bench):
    narrow = replace(bench, config={**bench.config, "account_host": "10.9.%"})
    with pytest.raises(Misconfigured, match="widen the hosts"):
        make(narrow)


def test_check_finds_nothing_against_the_documented_rights(bench):
    assert bench.provider.check(bench.call()) == []


@pytest.mark.parametrize("right", ["CREATE USER", "PROCESS", "CONNECTION ADMIN"])
def test_check_names_a_missing_right_and_the_statement_that_mends_it(bench, target, right):
    target.run(f"REVOKE {right} ON *.* FROM keyvault@'127.0.0.1'")
    try:
        found = bench.provider.check(bench.call())
        assert [problem.sentence for problem in found] == [f"keyvault lacks the right {right}."]
    finally:
        target.run(found[0].mend)
    assert bench.provider.check(bench.call()) == []


def test_check_names_a_refused_login_and_a_role_that_lacks(bench):
    wrong = replace(bench, admin={"password": Secret.of("wrong")})
    (found,) = wrong.provider.check(wrong.call())
    assert "refused the login" in found.sentence
    (found,) = bench.provider.check(_with(bench, role="missing").call())
    assert "no role missing" in found.sentence


def _over_tls(target: MariaTarget, authority: str):
    guard = outbound.Guard((outbound.Allowance.parse(f"localhost:{target.port}"),))
    return call(
        guard,
        timeout_s=10,
        config={"host": "localhost", "port": target.port, "user": target.admin, "ca": authority},
        options={"role": target.role},
        admin={"password": Secret.of(target.admin_password)},
    )


def test_with_tls_the_server_is_checked_and_new_accounts_must_encrypt(bench, target, tmp_path):
    provider, authority = MariaDB(), target.authority.read_text()
    attempt = provider.prepare(_over_tls(target, authority), a_tag()[3:-2], 1, None)
    issued = provider.create(_over_tls(target, authority), attempt)
    assert provider.validate(_over_tls(target, authority), issued).verdict is Verdict.VALID
    with pytest.raises(pymysql.OperationalError), bench.session(issued):
        pass

    other = certificates.make(tmp_path, "localhost").path.read_text()
    (found,) = provider.check(_over_tls(target, other))
    assert "No TLS session" in found.sentence
    assert provider.validate(_over_tls(target, other), issued).verdict is Verdict.UNKNOWN


def test_a_server_that_asks_for_the_password_itself_does_not_get_it(bench, target):
    """The switch to another way of logging in, as somebody in the middle would send it."""
    switch = b"\xfemysql_clear_password\0"
    packet = len(switch).to_bytes(3, "little") + b"\x02" + switch
    heard: list[bytes] = []

    def middle(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, socket.create_connection(("127.0.0.1", target.port)) as server:
            client.sendall(server.recv(65_536))
            heard.append(client.recv(65_536))
            client.sendall(packet)
            while more := client.recv(65_536):
                heard.append(more)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=middle, args=(listener,))
        thread.start()
        asked = replace(bench, proxy=SimpleNamespace(port=listener.getsockname()[1]))
        (found,) = asked.provider.check(asked.call())
        thread.join()
    assert "No connection as keyvault" in found.sentence
    assert b"keyvault" in heard[0], "the login was sent"
    assert target.admin_password.encode() not in b"".join(heard)
