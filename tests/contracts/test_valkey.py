"""What Valkey in particular must and must not do, on a real server."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from keyvault.crypto.secret import Secret
from keyvault.providers.base import Ambiguous, Denied, Misconfigured, NotFound, RemoteKey
from keyvault.providers.testing import FaultProxy, listed, make
from keyvault.providers.testing.bench import prepare
from keyvault.providers.valkey.admin import digest
from tests.contracts import servers
from tests.contracts.benches import ValkeyBench


def with_options(bench, **options):
    return replace(bench, options={**bench.options, **options})


def as_admin(target) -> redis.Redis:
    return redis.Redis(
        port=target.port,
        username=target.admin,
        password=target.admin_password,
        decode_responses=True,
    )


@pytest.mark.parametrize(
    "commands", ["+@all", "+@admin", "+acl|setuser +config +@read", "+@all -get"]
)
def test_no_key_can_make_itself_an_admin(valkey_bench, commands):
    issued = make(with_options(valkey_bench, commands=f"{commands} +set +get")).issued
    with valkey_bench.session(issued) as session:
        for command in (
            ("ACL", "SETUSER", issued.public["username"], "+@all"),
            ("ACL", "LIST"),
            ("CONFIG", "GET", "*"),
            ("SHUTDOWN", "NOSAVE"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                session.client.execute_command(*command)


def test_a_key_reaches_its_own_patterns_only(valkey_bench):
    issued = make(with_options(valkey_bench, keys="app:* jobs:*")).issued
    with valkey_bench.session(issued) as session:
        session.client.set("jobs:1", "x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            session.client.set("other:1", "x")
        with pytest.raises(redis.exceptions.NoPermissionError):
            session.client.publish("news", "x")


@pytest.mark.parametrize(
    "options",
    [
        {"keys": ""},
        {"keys": "app:*\u00a0other:*\u2003ünïcode"},
        {"commands": ""},
        {"commands": "allcommands"},
        {"commands": "+@read >mypassword"},
        {"commands": "+@read nopass"},
        {"channels": "new\x00s"},
    ],
)
def test_rules_that_are_more_than_rights_are_refused(valkey_bench, options):
    with pytest.raises(Misconfigured):
        prepare(with_options(valkey_bench, **options))


def test_a_pattern_stays_a_pattern(valkey_bench):
    """What looks like another rule follows ~ or &, so that the server takes it as a glob."""
    issued = make(with_options(valkey_bench, keys="app:* nopass >word", channels="on")).issued
    with as_admin_of(valkey_bench) as client:
        found = client.acl_getuser(issued.public["username"])
    assert "nopass" not in found["flags"]
    assert len(found["passwords"]) == 1


def as_admin_of(bench) -> redis.Redis:
    return as_admin(bench.target)


def test_the_server_is_told_a_hash_only_and_writes_it_down(valkey_bench, tmp_path_factory):
    made = make(valkey_bench)
    files = list(tmp_path_factory.getbasetemp().glob("valkey*/users.acl"))
    text = files[0].read_bytes()
    assert made.attempt.tag.encode() in text
    assert made.issued.material["password"].reveal() not in text


@pytest.fixture
def own_bench(tmp_path):
    """A server of this test alone, in a directory that can be moved away from under it."""
    home = tmp_path / "home"
    home.mkdir()
    with servers.valkey(home) as target, FaultProxy("127.0.0.1", target.port) as proxy:
        yield ValkeyBench.at(target, proxy), home


def test_what_the_server_cannot_write_down_is_not_done(own_bench):
    """CONFIG REWRITE would succeed and leave the users out: after a restart an ended key worked."""
    bench, home = own_bench
    made = make(bench)
    key = RemoteKey(made.issued.remote_id)
    away = home.rename(home.with_name("away"))

    for _ in range(2):
        with pytest.raises(Ambiguous):
            bench.provider.revoke(bench.call(), key, kill_sessions=True)
    with pytest.raises(Ambiguous):
        make(bench)
    away.rename(home)
    bench.provider.revoke(bench.call(), key, kill_sessions=True)

    assert made.attempt.tag.encode() not in (home / "users.acl").read_bytes()


@pytest.mark.parametrize("kill_sessions", [True, False])
def test_a_key_is_not_ended_where_the_admin_may_not_write_that_down(
    bench_with_files, kill_sessions
):
    """With a configuration file beside the ACL file CONFIG REWRITE succeeds, and proves nothing."""
    bench, home = bench_with_files
    made = make(bench)
    name, key = made.attempt.tag.encode(), RemoteKey(made.issued.remote_id)
    with as_admin_of(bench) as client:
        client.execute_command("ACL", "SETUSER", bench.target.admin, "-acl|save")
        for _ in range(2):
            with pytest.raises(Denied, match=r"\+acl\|save"):
                bench.provider.revoke(bench.call(), key, kill_sessions=kill_sessions)
        hashed = digest(made.issued.material["password"]).encode()
        assert hashed in (home / "users.acl").read_bytes(), "a restart would bring it back"
        client.execute_command("ACL", "SETUSER", bench.target.admin, "+acl|save")

    bench.provider.revoke(bench.call(), key, kill_sessions=kill_sessions)

    written = (home / "users.acl").read_bytes()
    assert (name in written, hashed in written) == (not kill_sessions, False)


@pytest.mark.parametrize("user", ["default", "keyvault", "app", "kv-", "kv-x"])
def test_a_user_that_keyvault_did_not_make_is_never_touched(valkey_bench, user):
    provider, key = valkey_bench.provider, RemoteKey(user, tag=user)
    with as_admin_of(valkey_bench) as client:
        client.execute_command("ACL", "SETUSER", "app", "on", ">theirs")
        before = client.acl_users()
        provider.revoke(valkey_bench.call(), key, kill_sessions=True)
        provider.revoke(valkey_bench.call(), key, kill_sessions=False)
        with pytest.raises(NotFound):
            provider.suspend(valkey_bench.call(), key)
        assert client.acl_users() == before
        assert "on" in client.acl_getuser("app")["flags"]
        client.acl_deluser("app")
    assert listed(valkey_bench) == {}


def test_last_use_knows_open_sessions(valkey_bench):
    provider, issued = valkey_bench.provider, make(valkey_bench).issued
    assert provider.last_use(valkey_bench.call(), issued.key()).at is None
    with valkey_bench.session(issued):
        seen = provider.last_use(valkey_bench.call(), issued.key())
        assert seen.sessions == 1
        assert seen.at is not None


def test_check_names_a_refused_login_and_missing_rights(valkey_bench):
    wrong = replace(valkey_bench, admin={"password": Secret.of("wrong")})
    (found,) = wrong.provider.check(wrong.call())
    assert "refused the login" in found.sentence
    issued = make(valkey_bench).issued
    weak = replace(
        valkey_bench,
        config={**valkey_bench.config, "user": issued.public["username"]},
        admin=issued.material,
    )
    (found,) = weak.provider.check(weak.call())
    assert "may not run a command" in found.sentence
