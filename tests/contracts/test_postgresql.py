"""What PostgreSQL in particular must and must not do, on a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Conflict,
    Misconfigured,
    NotFound,
    Transient,
    Verdict,
)
from keyvault.providers.postgresql import provider as module
from keyvault.providers.testing import Fault, listed, make, recover
from keyvault.providers.testing.bench import prepare
from tests.contracts.benches import PostgresBench
from tests.contracts.servers import PostgresTarget

SPLIT_MEMBERSHIP = 160000


@contextmanager
def superuser(target: PostgresTarget) -> Iterator[psycopg.Connection]:
    with psycopg.connect(target.dsn(), autocommit=True) as connection:
        yield connection


def with_options(bench: PostgresBench, **options: str) -> PostgresBench:
    return replace(bench, options={**bench.options, **options})


def test_the_password_reaches_the_server_as_a_verifier_only(postgres_bench, postgres_target):
    made = make(postgres_bench)
    log = postgres_target.log.read_bytes()
    assert b"SCRAM-SHA-256$4096:" in log
    assert made.issued.material["password"].reveal() not in log


def test_what_a_key_creates_belongs_to_the_owner_role(postgres_bench, postgres_target):
    name = postgres_bench.options["login_prefix"]
    with postgres_bench.session(make(postgres_bench).issued) as session:
        session.connection.execute(f"CREATE SCHEMA {name} CREATE TABLE {name}.made (id int)")
        session.connection.commit()
    with superuser(postgres_target) as connection:
        owner = connection.execute(
            "SELECT tableowner FROM pg_tables WHERE schemaname = %s", (name,)
        ).fetchone()
        connection.execute(f"DROP SCHEMA {name} CASCADE")
    assert owner == (postgres_target.owner,)


def test_a_commit_without_an_answer_is_ambiguous_by_the_deadline(postgres_bench):
    attempt = prepare(postgres_bench)
    started_at = time.monotonic()
    with postgres_bench.proxy.failing(Fault.HANG, b"COMMIT"), pytest.raises(Ambiguous):
        postgres_bench.provider.create(postgres_bench.call(timeout_s=2.5), attempt)
    assert time.monotonic() - started_at < 20


def test_what_breaks_before_commit_is_certainly_undone(postgres_bench):
    attempt = prepare(postgres_bench)
    with (
        postgres_bench.proxy.failing(Fault.LOSE_ANSWER, b"COMMENT ON ROLE"),
        pytest.raises(Transient),
    ):
        postgres_bench.provider.create(postgres_bench.call(), attempt)
    assert postgres_bench.struck()
    assert postgres_bench.provider.find(postgres_bench.call(), attempt) == []
    recover(postgres_bench, attempt)


def test_the_admin_keeps_no_right_over_data_after_ending_sessions(postgres_bench, postgres_target):
    issued = make(postgres_bench).issued
    with postgres_bench.session(issued):
        postgres_bench.provider.revoke(postgres_bench.call(), issued.key(), kill_sessions=True)
    with superuser(postgres_target) as connection:
        inherits = connection.execute(
            "SELECT pg_has_role(%s, %s, 'USAGE'), pg_has_role(%s, %s, 'USAGE')",
            (postgres_target.admin, issued.slot, postgres_target.admin, postgres_target.owner),
        ).fetchone()
    # Before 16 the right to hand a role on cannot be had without its rights.
    assert inherits == (False, postgres_target.version < SPLIT_MEMBERSHIP)


def test_a_slot_with_open_sessions_is_not_used_again(postgres_bench):
    first = make(postgres_bench).issued
    second = make(postgres_bench, first).issued
    with postgres_bench.session(first):
        postgres_bench.provider.revoke(postgres_bench.call(), first.key(), kill_sessions=False)
        with pytest.raises(Conflict, match="open sessions"):
            prepare(postgres_bench, second)
    time.sleep(0.2)
    assert make(postgres_bench, second).issued.slot == first.slot


def test_revoking_an_old_version_leaves_the_sessions_of_its_successor(postgres_bench):
    first = make(postgres_bench).issued
    second = make(postgres_bench, first).issued
    postgres_bench.provider.revoke(postgres_bench.call(), first.key(), kill_sessions=True)
    third = make(postgres_bench, second).issued
    assert third.slot == first.slot
    with postgres_bench.session(third) as session:
        postgres_bench.provider.revoke(postgres_bench.call(), first.key(), kill_sessions=True)
        assert session.works()


def test_a_replay_after_the_revocation_is_refused(postgres_bench):
    """A worker that was paused before its replay must not bring a dead password back."""
    made = make(postgres_bench)
    postgres_bench.provider.revoke(postgres_bench.call(), made.issued.key(), kill_sessions=True)
    with pytest.raises(Conflict):
        postgres_bench.provider.create(postgres_bench.call(), made.attempt)
    assert listed(postgres_bench) == {}


@pytest.mark.parametrize("rights", ["LOGIN", "NOLOGIN", "SUPERUSER"])
def test_a_role_that_keyvault_did_not_make_is_never_taken(postgres_bench, postgres_target, rights):
    prefix = postgres_bench.options["login_prefix"]
    with superuser(postgres_target) as connection:
        for suffix in ("_a", "_b"):
            connection.execute(f"CREATE ROLE {prefix}{suffix} {rights} PASSWORD 'theirs'")
    try:
        with pytest.raises(Conflict, match="not made by keyvault"):
            prepare(postgres_bench)
    finally:
        with superuser(postgres_target) as connection:
            connection.execute(f"DROP ROLE {prefix}_a, {prefix}_b")


def test_a_slot_that_somebody_gave_more_rights_is_not_used_again(postgres_bench, postgres_target):
    issued = make(postgres_bench).issued
    postgres_bench.provider.revoke(postgres_bench.call(), issued.key(), kill_sessions=True)
    with superuser(postgres_target) as connection:
        connection.execute(f"GRANT pg_read_all_data TO {issued.slot}")
    assert prepare(postgres_bench).slot != issued.slot


@pytest.mark.parametrize(
    "options",
    [
        {"login_prefix": ""},
        {"login_prefix": "9lives"},
        {"login_prefix": "pg_mine"},
        {"login_prefix": 'a"; DROP ROLE x; --'},
        {"login_prefix": "x" * 62},
        {"owner_role": ""},
        {"owner_role": "pg_read_all_data"},
        {"owner_role": "missing_owner"},
        {"owner_role": "kv_admin"},
        {"owner_role": "root_dba"},
        {"connection_limit": "many"},
        {"connection_limit": "-2"},
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_changes(postgres_bench, options):
    with pytest.raises(Misconfigured):
        prepare(with_options(postgres_bench, **options))


def test_names_with_quotes_stay_names(postgres_bench, postgres_target):
    owner = 'Shop "Own\'er"; --'
    with superuser(postgres_target) as connection:
        connection.execute(psycopg.sql.SQL("CREATE ROLE {}").format(psycopg.sql.Identifier(owner)))
        connection.execute(
            psycopg.sql.SQL("GRANT {} TO kv_admin WITH ADMIN OPTION").format(
                psycopg.sql.Identifier(owner)
            )
        )
    bench = with_options(postgres_bench, owner_role=owner)
    made = make(bench)
    assert bench.provider.validate(bench.call(), made.issued).verdict is Verdict.VALID


def test_a_connection_limit_is_kept_by_the_server(postgres_bench):
    bench = with_options(postgres_bench, connection_limit="1")
    issued = make(bench).issued
    with bench.session(issued):
        # The server is busy, which says nothing against the password.
        assert bench.provider.validate(bench.call(), issued).verdict is Verdict.UNKNOWN


def test_a_wrong_password_is_invalid(postgres_bench):
    issued = replace(make(postgres_bench).issued, material={"password": Secret.of("wrong")})
    found = postgres_bench.provider.validate(postgres_bench.call(), issued)
    assert found.verdict is Verdict.INVALID


def test_last_use_counts_sessions(postgres_bench):
    issued = make(postgres_bench).issued
    provider = postgres_bench.provider
    assert provider.last_use(postgres_bench.call(), issued.key()).sessions == 0
    with postgres_bench.session(issued):
        assert provider.last_use(postgres_bench.call(), issued.key()).sessions == 1


def test_an_inventory_of_many_pages_misses_nothing(postgres_bench, monkeypatch):
    monkeypatch.setattr(module, "_PAGE", 1)
    first = make(postgres_bench).issued
    second = make(postgres_bench, first).issued
    assert set(listed(postgres_bench)) == {first.remote_id, second.remote_id}


def test_a_suspended_credential_is_listed_as_off(postgres_bench):
    issued = make(postgres_bench).issued
    postgres_bench.provider.suspend(postgres_bench.call(), issued.key())
    assert [key.is_enabled for key in listed(postgres_bench).values()] == [False]
    postgres_bench.provider.revoke(postgres_bench.call(), issued.key(), kill_sessions=True)
    with pytest.raises(NotFound):
        postgres_bench.provider.suspend(postgres_bench.call(), issued.key())
