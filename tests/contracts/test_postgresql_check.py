"""What the check of a PostgreSQL Connection says, and that TLS checks the server's name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from keyvault.crypto.secret import Secret
from keyvault.plugins.context import Call
from keyvault.providers.base import Denied, Misconfigured
from keyvault.providers.testing import make
from tests import certificates
from tests.contracts.benches import PostgresBench
from tests.contracts.test_postgresql import SPLIT_MEMBERSHIP, superuser, with_options


def problems(bench: PostgresBench) -> list[str]:
    return [f"{found.sentence} {found.mend}" for found in bench.provider.check(bench.call())]


def test_check_finds_nothing_against_the_documented_rights(postgres_bench):
    assert problems(postgres_bench) == []


def test_check_names_a_missing_right_and_the_statement_that_mends_it(
    postgres_bench, postgres_target
):
    with superuser(postgres_target) as connection:
        connection.execute("ALTER ROLE kv_admin NOCREATEROLE")
        try:
            assert any(
                'ALTER ROLE "kv_admin" CREATEROLE' in text for text in problems(postgres_bench)
            )
            with pytest.raises(Denied):
                make(postgres_bench)
        finally:
            connection.execute("ALTER ROLE kv_admin CREATEROLE")


def test_check_names_an_owner_role_that_cannot_be_handed_on(postgres_bench, postgres_target):
    with superuser(postgres_target) as connection:
        connection.execute("CREATE ROLE other_owner")
        bench = with_options(postgres_bench, owner_role="other_owner")
        try:
            if postgres_target.version < SPLIT_MEMBERSHIP:
                # Before 16 CREATEROLE hands every role on, so there is nothing to mend.
                assert problems(bench) == []
                return
            assert any('GRANT "other_owner" TO "kv_admin"' in text for text in problems(bench))
            with pytest.raises(Denied):
                make(bench)
        finally:
            connection.execute("DROP ROLE other_owner")
    assert any("There is no role" in text for text in problems(bench))


def test_check_warns_of_a_superuser(postgres_bench, postgres_target):
    bench = replace(
        postgres_bench,
        config={**postgres_bench.config, "user": postgres_target.superuser},
        admin={"password": Secret.of(postgres_target.superuser_password)},
    )
    (found,) = bench.provider.check(bench.call())
    assert "superuser" in found.sentence
    assert not found.is_fatal


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"admin": {"password": Secret.of("wrong")}}, "refused the login"),
        ({"admin": {}}, "no admin password"),
        ({"config": {"user": "kv_admin", "database": "none", "tls": "disable"}}, "does not exist"),
        ({"config": {"user": "kv_admin", "tls": "require"}}, "TLS"),
    ],
)
def test_check_says_what_is_wrong_with_the_connection(postgres_bench, changes, words):
    assert words in " ".join(problems(replace(postgres_bench, **changes)))


def test_r41_an_address_that_is_not_approved_is_a_problem_not_a_connection(postgres_bench):
    call = replace(postgres_bench.call(), guard=replace(postgres_bench.call().guard, allowed=()))
    (found,) = postgres_bench.provider.check(call)
    assert "private address" in found.sentence
    with pytest.raises(Misconfigured):
        postgres_bench.provider.prepare(call, "a" * 32, 1, None)


@pytest.fixture
def tls(postgres_target, tmp_path) -> Iterator[certificates.Certificate | None]:
    """Switch TLS on at the server, with a certificate for db.test that trusts itself."""
    made = certificates.make(tmp_path, "db.test")
    with superuser(postgres_target) as connection:
        try:
            connection.execute("ALTER SYSTEM SET ssl = on")
        except psycopg.errors.InvalidParameterValue:
            yield None
            return
        for name, value in (("cert", made.path), ("key", made.key)):
            connection.execute(f"ALTER SYSTEM SET ssl_{name}_file = '{value}'")
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.3)
        yield made
        connection.execute("ALTER SYSTEM RESET ALL")
        connection.execute("SELECT pg_reload_conf()")


def over_tls(bench: PostgresBench, host: str, **config: str) -> Call:
    """Return a call that reaches the server under a name, as a name server would have it."""
    base = bench.call()
    guard = replace(base.guard, resolve=lambda *_: ["127.0.0.1"])
    return replace(base, guard=guard, config={**base.config, "host": host, **config})


def test_tls_checks_the_name_while_the_address_is_pinned(postgres_bench, tls):
    if tls is None:
        # A server built without TLS must be refused, never spoken to in clear.
        assert postgres_bench.provider.check(over_tls(postgres_bench, "db.test", tls="require"))
        return
    authority = tls.path.read_text()
    good = over_tls(postgres_bench, "db.test", tls="verify-full", ca=authority)
    assert postgres_bench.provider.check(good) == []
    for host, ca in (("other.test", authority), ("db.test", "")):
        (found,) = postgres_bench.provider.check(
            over_tls(postgres_bench, host, tls="verify-full", ca=ca)
        )
        assert "certificate" in found.sentence
    (found,) = postgres_bench.provider.check(over_tls(postgres_bench, "db.test", tls="require"))
    assert "identity is not checked" in found.sentence
    assert not found.is_fatal
