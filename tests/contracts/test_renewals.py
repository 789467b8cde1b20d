"""The admin's own credential, renewed at real servers; each test has an admin of its own."""

from __future__ import annotations

import secrets
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
import redis
from psycopg import sql

from keyvault.crypto.secret import Secret
from keyvault.providers.base import Ambiguous, Conflict, Denied, Misconfigured, Verdict
from keyvault.providers.testing import AdminBench, AdminConformance
from keyvault.providers.testing.admins import plan, provider, renew, verdict
from keyvault.providers.valkey.admin import digest
from tests.contracts.aws_bench import IamBench
from tests.contracts.benches import PostgresBench, ValkeyBench

SPLIT_MEMBERSHIP = 160000
RIGHTS = (
    "resetchannels -@all +acl|setuser +acl|getuser +acl|users +acl|deluser +acl|save"
    " +config|rewrite +client|list +client|kill +time"
)


@pytest.fixture
def postgres_admin(postgres_bench, postgres_target):
    """A bench whose admin role is made for one test."""
    name, word = f"admin_{uuid4().hex[:12]}", secrets.token_urlsafe(16)
    with psycopg.connect(postgres_target.dsn(), autocommit=True) as link:
        link.execute(
            sql.SQL("CREATE ROLE {} LOGIN CREATEROLE PASSWORD {}").format(
                sql.Identifier(name), sql.Literal(word)
            )
        )
        may_say = postgres_target.version >= SPLIT_MEMBERSHIP
        how = "ADMIN TRUE, INHERIT FALSE, SET FALSE" if may_say else "ADMIN OPTION"
        link.execute(f"GRANT {postgres_target.owner} TO {name} WITH {how}")
        yield replace(
            postgres_bench,
            config={**postgres_bench.config, "user": name},
            admin={"password": Secret.of(word)},
        )
        link.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE usename = %s",
            (name,),
        )
        link.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def valkey_admin(valkey_bench, valkey_target):
    """A bench whose admin user is made for one test."""
    name, word = f"admin-{uuid4().hex[:12]}", secrets.token_urlsafe(16)
    with redis.Redis(
        port=valkey_target.port,
        username=valkey_target.admin,
        password=valkey_target.admin_password,
    ) as root:
        root.execute_command("ACL", "SETUSER", name, "on", f">{word}", *RIGHTS.split())
        yield replace(
            valkey_bench,
            config={**valkey_bench.config, "user": name},
            admin={"password": Secret.of(word)},
        )
        root.execute_command("ACL", "DELUSER", name)


class TestPostgreSQL(AdminConformance):
    @pytest.fixture
    def bench(self, postgres_admin: PostgresBench) -> AdminBench:
        return postgres_admin


class TestValkey(AdminConformance):
    @pytest.fixture
    def bench(self, valkey_admin: ValkeyBench) -> AdminBench:
        return valkey_admin


class TestAws(AdminConformance):
    # AWS chooses the key itself: an equal attempt is found again, not made again.
    test_an_equal_attempt_creates_once = None

    @pytest.fixture
    def bench(self, iam_bench: IamBench) -> AdminBench:
        return iam_bench


def test_sessions_of_the_old_password_live_until_it_is_revoked(postgres_admin, postgres_target):
    """ALTER ROLE leaves them open; whoever stole the old password is put out by the revoke."""
    name = str(postgres_admin.config["user"])
    word = postgres_admin.admin["password"].reveal().decode()
    with psycopg.connect(postgres_target.dsn(name, word), autocommit=True) as session:
        new = renew(postgres_admin)
        assert session.execute("SELECT 1").fetchone() == (1,)

        provider(postgres_admin).revoke_admin(postgres_admin.call_as(new), postgres_admin.admin)

        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


def test_the_server_log_has_no_password(postgres_admin, postgres_target):
    new = renew(postgres_admin)

    log = postgres_target.log.read_bytes()
    assert b"SCRAM-SHA-256$" in log
    assert new["password"].reveal() not in log


def test_a_password_that_could_not_be_set_again_is_not_replaced(postgres_admin, postgres_target):
    name = str(postgres_admin.config["user"])
    with psycopg.connect(postgres_target.dsn(), autocommit=True) as link:
        link.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                sql.Identifier(name), sql.Literal("pässwört")
            )
        )
    bench = replace(postgres_admin, admin={"password": Secret.of("pässwört")})

    with pytest.raises(Misconfigured, match="by hand once"):
        plan(bench)

    assert verdict(bench, bench.admin) is Verdict.VALID


def test_where_the_server_refuses_the_new_password_the_old_one_is_set_again(
    postgres_admin, monkeypatch
):
    """As behind a pooler that has passwords of its own: the open session is the way back."""
    attempt = plan(postgres_admin)
    pg = postgres_admin.provider
    tried = pg._tried

    def refuse_new(ctx, login):
        found = tried(ctx, login)
        is_new = login.password.reveal() == attempt.material["password"].reveal()
        return replace(found, verdict=Verdict.INVALID) if is_new else found

    monkeypatch.setattr(pg, "_tried", refuse_new)
    with pytest.raises(Misconfigured, match="in place again"):
        pg.create_admin(postgres_admin.call(), attempt)
    monkeypatch.undo()

    assert verdict(postgres_admin, postgres_admin.admin) is Verdict.VALID
    assert verdict(postgres_admin, attempt.material) is Verdict.INVALID


def test_open_sessions_of_the_old_password_are_ended_where_the_admin_may(
    valkey_admin, valkey_target
):
    word = valkey_admin.admin["password"].reveal().decode()
    with redis.Redis(
        port=valkey_target.port,
        username=str(valkey_admin.config["user"]),
        password=word,
        single_connection_client=True,
        retry=None,
    ) as session:
        session.execute_command("TIME")
        new = renew(valkey_admin)
        session.execute_command("TIME")

        provider(valkey_admin).revoke_admin(valkey_admin.call_as(new), valkey_admin.admin)

        with pytest.raises(redis.RedisError):
            session.execute_command("TIME")


def test_an_admin_that_may_end_no_sessions_is_renewed_all_the_same(valkey_admin, valkey_target):
    with redis.Redis(
        port=valkey_target.port,
        username=valkey_target.admin,
        password=valkey_target.admin_password,
    ) as root:
        root.execute_command("ACL", "SETUSER", str(valkey_admin.config["user"]), "-client|kill")
    new = renew(valkey_admin)

    provider(valkey_admin).revoke_admin(valkey_admin.call_as(new), valkey_admin.admin)

    assert verdict(valkey_admin, valkey_admin.admin) is Verdict.INVALID
    assert verdict(valkey_admin, new) is Verdict.VALID


def test_a_server_that_would_forget_the_new_password_gets_none(valkey_admin, valkey_target):
    """Without the right to write users to disk, a restart would bring the old password back."""
    user = str(valkey_admin.config["user"])
    with redis.Redis(
        port=valkey_target.port,
        username=valkey_target.admin,
        password=valkey_target.admin_password,
    ) as root:
        root.execute_command("ACL", "SETUSER", user, "-acl|save", "-config|rewrite")
        attempt = plan(valkey_admin)
        with pytest.raises(Misconfigured, match="does not write its users"):
            provider(valkey_admin).create_admin(valkey_admin.call(), attempt)

        assert len(root.acl_getuser(user)["passwords"]) == 1


def test_a_configuration_file_beside_an_acl_file_is_no_proof(bench_with_files):
    """CONFIG REWRITE succeeds there and leaves the users out; only ACL SAVE writes them."""
    bench, home = bench_with_files
    target = bench.target
    with redis.Redis(
        port=target.port, username=target.admin, password=target.admin_password
    ) as admin:
        admin.execute_command("ACL", "SETUSER", target.admin, "-acl|save")
        assert admin.execute_command("CONFIG", "REWRITE")
        attempt = plan(bench)
        with pytest.raises(Misconfigured, match="does not write its users"):
            provider(bench).create_admin(bench.call(), attempt)

        assert len(admin.acl_getuser(target.admin)["passwords"]) == 1
    hashed = digest(attempt.material["password"]).encode()
    written = [(home / name).read_bytes() for name in ("users.acl", "valkey.conf")]
    assert b"CONFIG REWRITE" in written[1]
    assert not any(hashed in text for text in written)
    assert verdict(bench, bench.admin) is Verdict.VALID


def test_the_old_password_counts_as_ended_only_when_that_is_written(bench_with_files):
    """The right was taken away during the renewal: after a restart the old one would be back."""
    bench, home = bench_with_files
    target, old = bench.target, digest(bench.admin["password"]).encode()
    new = renew(bench)
    with redis.Redis(
        port=target.port, username=target.admin, password=target.admin_password
    ) as admin:
        admin.execute_command("ACL", "SETUSER", target.admin, "-acl|save")
        with pytest.raises(Ambiguous):
            provider(bench).revoke_admin(bench.call_as(new), bench.admin)
        assert old in (home / "users.acl").read_bytes()
        admin.execute_command("ACL", "SETUSER", target.admin, "+acl|save")

    provider(bench).revoke_admin(bench.call_as(new), bench.admin)

    assert old not in (home / "users.acl").read_bytes()
    assert verdict(bench, bench.admin) is Verdict.INVALID


def test_an_admin_without_rights_over_its_own_keys_is_told(iam_bench):
    iam_bench.target.allow(iam_bench.admin_name, ["iam:ListUsers"])

    with pytest.raises(Denied, match="ListAccessKeys"):
        plan(iam_bench)


def test_two_keys_of_the_admin_leave_no_room(iam_bench):
    renew(iam_bench)

    with pytest.raises(Conflict, match="two access keys"):
        plan(iam_bench)
