"""What the OpenBao destination in particular must and must not do, on a real server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import hvac
import pytest

from keyvault.crypto.secret import Secret
from keyvault.destinations.base import Conflict, Denied, Misconfigured, NotFound, State, Transient
from keyvault.destinations.openbao.contents import STAMP
from keyvault.destinations.testing import (
    DestinationConformance,
    Fault,
    FaultProxy,
    make_version,
    put_live,
    secret_of,
)
from tests.contracts.openbao_bench import POLICY, OpenBaoBench, policy_for, token_of
from tests.load import openbao
from tests.servers import free_port

PAGE = Path(__file__).parents[2] / "docs/destinations/openbao.md"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    directory = tmp_path_factory.mktemp("openbao")
    with (
        openbao.running(directory, free_port(), free_port()) as running,
        contextlib.closing(running.root),
    ):
        yield running


@pytest.fixture
def bench(server: openbao.OpenBao) -> Iterator[OpenBaoBench]:
    port = int(server.url.rpartition(":")[2])
    with FaultProxy("127.0.0.1", port) as proxy:
        yield OpenBaoBench.at(server.root, proxy)


class TestConformance(DestinationConformance):
    pass


def with_options(bench: OpenBaoBench, **options: str) -> OpenBaoBench:
    bench.options = {**bench.options, **options}
    return bench


def promote(bench, version, expect=None):
    return bench.destination.promote(bench.call(), version, expect.id if expect else None)


def test_hvac_reads_what_was_promoted(bench, server):
    version = make_version()
    put_live(bench, version)
    client = hvac.Client(url=server.url, token=bench.token)
    try:
        found = client.secrets.kv.v2.read_secret_version(bench.path, raise_on_deleted_version=True)
    finally:
        client.adapter.close()
    data = found["data"]["data"]
    assert data.pop(STAMP).startswith(version.id)
    assert data == {"value": secret_of(version).decode(), "user": "orders_1"}


def test_fields_of_others_are_kept(bench):
    bench.write({"url": "https://shop.example", "nested": {"a": [1]}})
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    bench.write({**bench.data(), "url": "https://new.example"})
    put_live(bench, second, first)
    assert bench.data()["url"] == "https://new.example"
    assert bench.data()["nested"] == {"a": [1]}
    bench.destination.remove(bench.call(), second.id)
    assert bench.data() == {"url": "https://new.example", "nested": {"a": [1]}}


def test_an_edit_of_others_fields_is_no_conflict_and_no_second_write(bench):
    version = make_version()
    put_live(bench, version)
    bench.write({**bench.data(), "theirs": "x"})
    before = bench.state()
    assert promote(bench, version).live == version.id
    assert bench.state() == before


@pytest.mark.parametrize("stamp", ["nonsense", 7, None, "", {"a": 1}])
def test_a_broken_mark_makes_our_fields_foreign(bench, stamp):
    version = make_version()
    put_live(bench, version)
    bench.write({**bench.data(), STAMP: stamp})
    assert bench.destination.observe(bench.call()).is_foreign
    with pytest.raises(Conflict):
        promote(bench, version)


def test_a_mark_copied_from_another_secret_fits_there_only(bench):
    version = make_version()
    put_live(bench, version)
    stamp = bench.data()[STAMP]
    other = OpenBaoBench.at(bench.root, bench.proxy)
    other.write({"value": "theirs", "user": "orders_1", STAMP: stamp})
    assert other.destination.observe(other.call()).is_foreign


def test_a_field_that_somebody_else_holds_is_not_taken(bench):
    """The mapping gains a field which is there already and is not ours."""
    first, second = make_version(1), make_version(2)
    with_options(bench, fields="value=value")
    put_live(bench, first)
    bench.write({**bench.data(), "user": "theirs"})
    with_options(bench, fields="value=value username=user")
    with pytest.raises(Conflict):
        promote(bench, second, first)
    assert bench.data()["user"] == "theirs"


def test_a_field_that_is_no_longer_mapped_goes(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    with_options(bench, fields="value=api_key")
    put_live(bench, second, first)
    assert set(bench.data()) == {"api_key", STAMP}
    assert bench.destination.verify(bench.call(), second).state is State.OK


@pytest.mark.parametrize("how", ["data", "metadata"])
def test_a_secret_that_a_person_deleted_can_be_written_again(bench, how):
    """After `kv delete` the engine still counts versions, and `cas` must name the last."""
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    bench.root.delete(f"/v1/secret/{how}/{bench.path}").raise_for_status()
    assert bench.destination.observe(bench.call()).live is None
    with pytest.raises(Conflict):
        promote(bench, second, first)
    assert put_live(bench, second).live == second.id


def test_somebody_elses_secret_at_the_pending_path_stays(bench):
    pending, version = f"{bench.path}-pending", make_version()
    bench.write({"value": "theirs"}, pending)
    with pytest.raises(Conflict):
        bench.destination.stage(bench.call(), version)
    bench.destination.cleanup(bench.call(), [])
    assert bench.data(pending) == {"value": "theirs"}


def test_cleanup_destroys_every_version_of_what_was_staged(bench):
    for number in (1, 2):
        bench.destination.stage(bench.call(), make_version(number))
    bench.destination.cleanup(bench.call(), [])
    assert bench.root.get(f"/v1/secret/metadata/{bench.path}-pending").status_code == 404


def test_a_change_between_look_and_write_is_a_conflict(bench, monkeypatch):
    """The engine compares: whoever wrote after our look is not overwritten."""
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    engine = bench.destination.promote.__globals__["Engine"]
    real = engine.merge

    def late(self, path, patch, seen):
        bench.overwrite()
        real(self, path, patch, seen)

    monkeypatch.setattr(engine, "merge", late)
    with pytest.raises(Conflict):
        promote(bench, second, first)
    assert bench.consumed() == b"typed-by-hand"


def test_a_wrong_token_is_denied_and_not_repeated(bench):
    wrong = replace(bench, token="s.wrongwrongwrong")
    for call in (
        lambda: wrong.destination.observe(wrong.call()),
        lambda: wrong.destination.stage(wrong.call(), make_version()),
    ):
        with pytest.raises(Denied) as denied:
            call()
        assert "wrongwrong" not in str(denied.value)
    assert wrong.destination.check(wrong.call())


@pytest.mark.parametrize("token", [b"", b"two words", b"line\nbreak", "ü".encode()])
def test_a_token_that_no_header_holds_is_refused(bench, token):
    ctx = replace(bench.call(), admin={"token": Secret(token)})
    with pytest.raises(Misconfigured) as refused:
        bench.destination.observe(ctx)
    assert not token or token.decode() not in str(refused.value)


def test_a_token_that_may_only_read_shows_before_anything_moves(bench, server):
    reading = 'path "secret/data/apps/*" { capabilities = ["read"] }\n'
    asking = 'path "sys/capabilities-self" { capabilities = ["update"] }\n'
    weak = replace(bench, token=token_of(server.root, reading + asking))
    lacking = [problem.sentence for problem in weak.destination.check(weak.call())]
    assert [sentence for sentence in lacking if "create, patch, update" in sentence]
    with pytest.raises(Denied):
        weak.destination.stage(weak.call(), make_version())
    mute = replace(bench, token=token_of(server.root, reading))
    (found,) = mute.destination.check(mute.call())
    assert not found.is_fatal


def test_the_token_of_the_page_reaches_nothing_else(bench):
    assert POLICY in PAGE.read_text()
    elsewhere = with_options(bench, path="other/secret")
    with pytest.raises(Denied):
        elsewhere.destination.stage(elsewhere.call(), make_version())


def test_an_engine_of_version_1_is_refused(bench, server):
    if "old/" not in server.root.get("/v1/sys/mounts").json()["data"]:
        made = server.root.post("/v1/sys/mounts/old", json={"type": "kv"})
        made.raise_for_status()
    policy = 'path "old/*" { capabilities = ["read", "create", "update"] }'
    old = replace(bench, token=token_of(server.root, policy), config={"mount": "old"})
    (found,) = old.destination.check(old.call())
    assert "version 2" in found.sentence


def test_a_mount_that_is_not_there_is_named(bench, server):
    policy = 'path "nowhere/*" { capabilities = ["read", "create", "update"] }'
    lost = replace(bench, token=token_of(server.root, policy), config={"mount": "nowhere"})
    assert lost.destination.check(lost.call())
    with pytest.raises((NotFound, Denied)):
        lost.destination.stage(lost.call(), make_version())


def test_a_namespace_is_its_own_place(bench, server):
    server.root.post("/v1/sys/namespaces/team").raise_for_status()
    engine = {"type": "kv", "options": {"version": "2"}}
    server.root.post("/v1/team/sys/mounts/secret", json=engine).raise_for_status()
    token = token_of(server.root, policy_for(bench.path), url="/v1/team")
    inside = replace(bench, token=token, config={"namespace": "team"})
    version = make_version()
    put_live(inside, version)
    assert inside.consumed() is None
    found = server.root.get(f"/v1/team/secret/data/{inside.path}").json()["data"]["data"]
    assert found["value"].encode() == secret_of(version)


@pytest.mark.parametrize("path", ["", "/", "a//b", "../sys/mounts", "a/./b", "a/..", "a\nb", "a\0"])
def test_a_path_in_more_than_one_spelling_is_refused(bench, path):
    with pytest.raises(Misconfigured):
        put_live(with_options(bench, path=path), make_version())


@pytest.mark.parametrize("path", ["apps/a b?version=1#x", "apps/%2e%2e", "apps/ünï"])
def test_a_path_is_quoted(bench, path):
    bench, version = OpenBaoBench.at(bench.root, bench.proxy, path), make_version()
    put_live(bench, version)
    assert bench.destination.verify(bench.call(), version).state is State.OK
    folder = bench.root.request("LIST", "/v1/secret/metadata/apps").json()["data"]["keys"]
    assert path.removeprefix("apps/") in folder


@pytest.mark.parametrize("fields", ["value", "value=a/b", f"value={STAMP}", "value=a username=a"])
def test_fields_that_cannot_be_are_refused(bench, fields):
    with pytest.raises(Misconfigured):
        put_live(with_options(bench, fields=fields), make_version())


def test_a_sealed_server_is_an_outage(bench):
    """503 to a read changes nothing; it is no verdict."""
    put_live(bench, version := make_version())
    sealed = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
    with bench.proxy.failing(Fault.REPLY, b"GET", sealed):
        assert bench.destination.verify(bench.call(), version).state is State.PENDING
        with pytest.raises(Transient):
            bench.destination.observe(bench.call())


def test_the_token_and_the_value_stand_in_no_url(bench, server):
    """The server's own audit file shows what was asked: values there are hashed, paths are not."""
    version = make_version()
    put_live(bench, version)
    audited = server.audit.read_bytes()
    assert bench.path.encode() in audited
    assert secret_of(version) not in audited
    assert bench.token.encode() not in audited
