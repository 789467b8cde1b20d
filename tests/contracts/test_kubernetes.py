"""What a Kubernetes Secret in particular must and must not do, before a fake API server."""

from __future__ import annotations

import ssl
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    Restart,
    State,
    Transient,
)
from keyvault.destinations.kubernetes import Kubernetes
from keyvault.destinations.testing import DestinationConformance, make_version, put_live
from keyvault.plugins.context import call
from keyvault.plugins.faults import FaultProxy
from tests import certificates
from tests.contracts.vendors.kubernetes_server import (
    DEPLOYMENT,
    NAMESPACE,
    SECRET,
    KubernetesServer,
)
from tests.contracts.vendors.place_bench import PlaceBench
from tests.contracts.vendors.server import serving

TARGET = {"namespace": NAMESPACE, "secret": SECRET, "entries": "value=API_KEY username=DB_USER"}


@contextmanager
def cluster(**target: str) -> Iterator[PlaceBench]:
    server = KubernetesServer()
    server.add_secret()
    if "deployment" in target:
        server.add_deployment()
    with serving(server), FaultProxy("127.0.0.1", server.port) as proxy:
        yield PlaceBench(
            Kubernetes(),
            proxy,
            server,
            lambda url: {"url": url},
            {**TARGET, **target},
            {"token": Secret.of(server.token)},
            change=rb'"resourceVersion"',
        )


class TestSecretAlone(DestinationConformance):
    @pytest.fixture
    def bench(self) -> Iterator[PlaceBench]:
        with cluster() as bench:
            yield bench


class TestSecretAndDeployment(DestinationConformance):
    @pytest.fixture
    def bench(self) -> Iterator[PlaceBench]:
        with cluster(deployment=DEPLOYMENT) as bench:
            yield bench


@pytest.fixture
def bench() -> Iterator[PlaceBench]:
    with cluster() as bench:
        yield bench


@pytest.fixture
def restarting() -> Iterator[PlaceBench]:
    with cluster(deployment=DEPLOYMENT) as bench:
        yield bench


def health(bench, version):
    return bench.destination.verify(bench.call(), version)


def coded(text: str) -> str:
    return b64encode(text.encode()).decode()


def test_public_and_secret_parts_go_under_their_names_beside_what_others_keep(bench):
    bench.server.edit("helm", {"data": {"OTHER": coded("theirs")}})
    version = make_version()
    put_live(bench, version)
    found = {name: b64decode(text) for name, text in bench.server.secret()["data"].items()}
    assert found == {
        "API_KEY": version.fields["value"].reveal(),
        "DB_USER": b"orders_1",
        "OTHER": b"theirs",
    }
    bench.destination.remove(bench.call(), version.id)
    assert set(bench.server.secret()["data"]) == {"OTHER"}
    assert not bench.server.secret()["metadata"]["annotations"]


def test_no_annotation_holds_a_value_or_a_digest_of_one(bench):
    version = make_version()
    put_live(bench, version)
    bench.destination.stage(bench.call(), make_version(2))
    notes = bench.server.secret()["metadata"]["annotations"]
    assert sorted(name.rpartition("-")[0] for name in notes) == [
        "keyvault/staged",
        "keyvault/version",
    ]
    assert [text for text in notes.values() if len(text) > len(version.id)] == []


def test_two_keys_share_a_secret(bench):
    """Each has its own entries and marks; one does not take the other for an intruder."""
    other = replace(bench, options={**bench.options, "entries": "value=SECOND_KEY"})
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    put_live(other, second)
    assert bench.destination.observe(bench.call()).live == first.id
    assert other.destination.observe(other.call()).live == second.id
    bench.destination.remove(bench.call(), first.id)
    assert health(other, second).state is State.OK


def test_an_edit_of_another_part_between_look_and_write_is_no_conflict(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    bench.server.before_patch.append(
        lambda: bench.server.edit("helm", {"data": {"OTHER": coded("theirs")}})
    )
    with pytest.raises(Transient):
        bench.destination.promote(bench.call(), second, first.id)
    assert bench.consumed() == first.fields["value"].reveal()
    assert bench.destination.promote(bench.call(), second, first.id).live == second.id


def test_an_edit_of_our_entry_between_look_and_write_is_a_conflict(bench):
    first, second = make_version(1), make_version(2)
    put_live(bench, first)
    bench.server.before_patch.append(bench.server.overwrite)
    with pytest.raises(Conflict):
        bench.destination.promote(bench.call(), second, first.id)
    assert bench.consumed().startswith(b"typed-")


def test_an_edit_of_another_part_between_look_and_mark_is_transient(bench):
    version = make_version()
    bench.server.before_patch.append(
        lambda: bench.server.edit("helm", {"data": {"OTHER": coded("theirs")}})
    )
    with pytest.raises(Transient):
        bench.destination.stage(bench.call(), version)
    assert bench.destination.observe(bench.call()).staged == ()


def test_an_entry_that_somebody_deleted_is_foreign(bench):
    version = make_version()
    put_live(bench, version)
    bench.server.edit("kubectl-edit", {"data": {"DB_USER": None}})
    assert bench.destination.observe(bench.call()).is_foreign
    assert health(bench, version).state is State.BAD


def test_a_missing_secret_is_named_and_not_made(bench):
    del bench.server.objects[NAMESPACE, "secrets", SECRET]
    version = make_version()
    assert bench.destination.observe(bench.call()).live is None
    for attempted in (
        lambda: bench.destination.stage(bench.call(), version),
        lambda: bench.destination.promote(bench.call(), version, None),
    ):
        with pytest.raises(NotFound):
            attempted()
    bench.destination.remove(bench.call(), version.id)
    bench.destination.cleanup(bench.call(), [])
    assert health(bench, version).state is State.BAD
    (problem,) = bench.destination.check(bench.call())
    assert "create an empty one" in problem.sentence
    assert bench.server.objects == {}


def test_an_immutable_secret_is_refused_before_anything_moves(bench):
    bench.server.secret()["immutable"] = True
    before = bench.state()
    with pytest.raises(Misconfigured):
        bench.destination.stage(bench.call(), make_version())
    with pytest.raises(Misconfigured):
        bench.destination.promote(bench.call(), make_version(), None)
    assert bench.destination.check(bench.call())
    assert bench.state() == before


def test_a_missing_right_shows_when_a_version_is_staged(restarting):
    bench, version = restarting, make_version()
    for resource in ("secrets", "deployments"):
        before = bench.state()
        bench.server.denied = {("patch", resource)}
        with pytest.raises(Denied):
            bench.destination.stage(bench.call(), version)
        (problem,) = bench.destination.check(bench.call())
        assert resource in problem.sentence
        assert bench.state() == before


def test_a_token_that_is_not_accepted_is_named(bench):
    wrong = replace(bench, admin={"token": Secret.of("somebody-else")})
    (problem,) = wrong.destination.check(wrong.call())
    assert "401" in problem.sentence
    with pytest.raises(Denied):
        wrong.destination.observe(wrong.call())


def test_a_rollout_is_followed_to_its_end(restarting):
    bench, version = restarting, make_version()
    bench.destination.promote(bench.call(), version, None)
    deployment = bench.server.deployment()
    assert list(deployment["spec"]["template"]["metadata"]["annotations"].values()) == [version.id]
    assert health(bench, version).state is State.PENDING
    bench.server.roll_out(deployment, 1)
    assert "1 of 3" in health(bench, version).reason
    bench.server.roll_out(deployment, 3, replicas=4)
    assert health(bench, version).state is State.PENDING
    bench.server.roll_out(deployment, 3, availableReplicas=2)
    assert health(bench, version).state is State.PENDING
    bench.server.roll_out(deployment, 3)
    assert health(bench, version).state is State.OK
    failed = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    bench.server.roll_out(deployment, 1, conditions=[failed])
    assert health(bench, version).state is State.BAD
    deployment["spec"]["paused"] = True
    bench.server.roll_out(deployment, 1)
    assert health(bench, version).state is State.BAD


def test_a_restart_that_was_lost_is_ambiguous_and_made_up_for(restarting):
    """The Secret had moved by then, so that nothing of it may be called undone."""
    bench, version = replace(restarting, change=rb'"template"'), make_version()
    with bench.lose_request(), pytest.raises(Ambiguous):
        bench.destination.promote(bench.call(), version, None)
    assert bench.struck()
    assert bench.destination.observe(bench.call()).live == version.id
    assert health(bench, version).state is State.PENDING
    bench.destination.promote(bench.call(), version, None)
    bench.settle()
    assert health(bench, version).state is State.OK
    assert bench.server.deployment()["metadata"]["generation"] == 2


def test_a_restart_that_is_put_off_does_not_call_the_write_undone(restarting):
    bench, version = restarting, make_version()
    bench.server.before_patch.append(bench.server.limit)
    with pytest.raises(Ambiguous):
        bench.destination.promote(bench.call(), version, None)
    assert bench.destination.observe(bench.call()).live == version.id


def test_a_trial_of_the_restart_restarts_nothing(restarting):
    before = restarting.server.deployment()
    restarting.destination.stage(restarting.call(), make_version())
    assert restarting.server.deployment() is before


@pytest.mark.parametrize(
    ("target", "lag_s", "restart"),
    [
        ({}, 0.0, Restart.CONSUMER),
        ({"mounted_as": "volume"}, 120.0, Restart.NOTHING),
        ({"deployment": "api"}, 0.0, Restart.NOTHING),
        ({"deployment": "api", "mounted_as": "volume"}, 0.0, Restart.NOTHING),
    ],
)
def test_what_a_consumer_needs_follows_from_how_it_reads(bench, target, lag_s, restart):
    able = replace(bench, options={**TARGET, **target})
    found = able.destination.capabilities(able.call())
    assert (found.consumer_lag_s, found.needs_restart) == (lag_s, restart)
    assert found.cas


@pytest.mark.parametrize(
    "target",
    [
        {"namespace": ""},
        {"namespace": "../kube-system"},
        {"secret": "orders/status"},
        {"deployment": "api?dryRun"},
        {"entries": ""},
        {"entries": "value=.."},
        {"entries": "value=../x"},
    ],
)
def test_names_that_are_more_than_names_are_refused(bench, target):
    wrong = replace(bench, options={**TARGET, **target})
    with pytest.raises(Misconfigured):
        wrong.destination.observe(wrong.call())
    assert bench.server.asked == []


def test_a_version_without_a_named_part_is_refused_before_anything_moves(bench):
    lacking = replace(bench, options={**TARGET, "entries": "value=API_KEY password=PGPASSWORD"})
    before = bench.state()
    for attempted in (
        lambda: lacking.destination.stage(lacking.call(), make_version()),
        lambda: lacking.destination.promote(lacking.call(), make_version(), None),
    ):
        with pytest.raises(Misconfigured):
            attempted()
    assert bench.state() == before


def test_only_the_clusters_own_authority_is_trusted(tmp_path):
    right = certificates.make(tmp_path, "localhost")
    other = certificates.make(tmp_path, "other")
    server = KubernetesServer()
    server.add_secret()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(right.path, right.key)
    with serving(server, lambda plain: context.wrap_socket(plain, server_side=True)):
        guard = outbound.Guard((outbound.Allowance.parse(f"localhost:{server.port}"),))

        def at(ca: str):
            config = {"url": f"https://localhost:{server.port}", "ca": ca}
            token = {"token": Secret.of(server.token)}
            return call(guard, timeout_s=5, config=config, options=TARGET, admin=token)

        assert Kubernetes().check(at(right.path.read_text())) == []
        for ca in ("", other.path.read_text()):
            with pytest.raises(Transient):
                Kubernetes().observe(at(ca))
        with pytest.raises(Misconfigured):
            Kubernetes().observe(at("-----BEGIN NOTHING-----"))
    assert len(server.asked) == 2
