"""What Secrets Manager in particular must and must not do, before moto."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from keyvault.crypto.secret import Secret
from keyvault.destinations.aws_secrets.secret import NOTHING, RemoteSecret
from keyvault.destinations.base import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    State,
    Transient,
)
from keyvault.destinations.testing import (
    Bench,
    DestinationConformance,
    Fault,
    make_version,
    put_live,
    secret_of,
)
from tests.contracts.aws_bench import SecretBench, answer
from tests.contracts.aws_servers import SECRET_RIGHTS


class TestAwsSecrets(DestinationConformance):
    @pytest.fixture
    def bench(self, secret_bench: Bench) -> Bench:
        return secret_bench


def with_options(bench: SecretBench, **options: str) -> SecretBench:
    return replace(bench, options={**bench.options, **options})


def problems(bench: SecretBench) -> list[str]:
    return [f"{found.sentence} {found.mend}" for found in bench.destination.check(bench.call())]


def current(bench: SecretBench) -> str:
    return next(found for found, labels in bench.stages().items() if "AWSCURRENT" in labels)


def test_a_consumer_gets_the_named_parts_and_nothing_else(secret_bench):
    version = make_version()
    put_live(secret_bench, version)
    found = secret_bench.consumer.get_secret_value(
        SecretId=secret_bench.name, VersionStage="AWSCURRENT"
    )
    assert found["VersionId"] == version.id
    assert json.loads(found["SecretString"]) == {
        "API_KEY": secret_of(version).decode(),
        "DB_USER": "orders_1",
    }


def test_a_secret_can_hold_one_part_as_it_is(secret_bench):
    bench, version = with_options(secret_bench, format="text", parts="value=VALUE"), make_version()
    put_live(bench, version)
    found = bench.consumer.get_secret_value(SecretId=bench.name, VersionStage="AWSCURRENT")
    assert found["SecretString"].encode() == secret_of(version)
    assert bench.destination.verify(bench.call(), version).state is State.OK


def test_without_names_every_part_has_its_own(secret_bench):
    bench, version = with_options(secret_bench, parts=""), make_version()
    put_live(bench, version)
    found = bench.consumer.get_secret_value(SecretId=bench.name, VersionStage="AWSCURRENT")
    assert set(json.loads(found["SecretString"])) == {"value", "username"}


def test_the_first_version_of_a_secret_is_staged_and_not_live(secret_bench):
    """AWS makes the first value of a secret live at once; that is an empty one here."""
    version = make_version()
    secret_bench.destination.stage(secret_bench.call(), version)
    assert current(secret_bench) == NOTHING
    assert "AWSPENDING" in secret_bench.stages()[version.id]
    assert not secret_bench.destination.observe(secret_bench.call()).is_foreign


def test_a_label_that_moved_after_the_comparison_is_a_conflict(secret_bench, monkeypatch):
    """Somebody edits between our look and our change; AWS itself compares, and theirs stays."""
    first, second = make_version(1), make_version(2)
    put_live(secret_bench, first)
    secret_bench.destination.stage(secret_bench.call(), second)
    move = RemoteSecret.move

    def late(remote: RemoteSecret, label: str, **ends: str) -> None:
        if label == "AWSCURRENT":
            secret_bench.overwrite()
        move(remote, label, **ends)

    monkeypatch.setattr(RemoteSecret, "move", late)
    with pytest.raises(Conflict, match="changed the secret meanwhile"):
        secret_bench.destination.promote(secret_bench.call(), second, first.id)
    assert secret_bench.consumed() == b"typed by a person"


def test_a_removed_value_is_not_left_under_awsprevious(secret_bench):
    version = make_version()
    put_live(secret_bench, version)
    secret_bench.destination.remove(secret_bench.call(), version.id)
    assert secret_bench.stages() == {NOTHING: ["AWSCURRENT", f"keyvault-{NOTHING}"]}


def test_a_removal_that_stopped_halfway_is_finished_by_the_next(secret_bench):
    version = make_version()
    put_live(secret_bench, version)
    mark = re.escape(b"AWSPREVIOUS")
    with (
        secret_bench.proxy.failing(Fault.LOSE_REQUEST, mark),
        pytest.raises((Transient, Ambiguous)),
    ):
        secret_bench.destination.remove(secret_bench.call(), version.id)
    assert secret_bench.struck()
    assert version.id in secret_bench.stages()
    secret_bench.destination.remove(secret_bench.call(), version.id)
    assert version.id not in secret_bench.stages()


def test_another_content_under_the_same_id_is_bad_and_a_conflict(secret_bench):
    """The settings of the target changed after the version was laid down."""
    version = make_version()
    put_live(secret_bench, version)
    changed = with_options(secret_bench, parts="value=OTHER_NAME")
    assert changed.destination.verify(changed.call(), version).state is State.BAD
    secret_bench.destination.remove(secret_bench.call(), version.id)
    with pytest.raises(Conflict, match="another content"):
        changed.destination.stage(changed.call(), version)


@pytest.mark.parametrize("right", SECRET_RIGHTS)
def test_a_missing_right_is_named_before_anything_moves(secret_bench, right):
    first, second = make_version(1), make_version(2)
    put_live(secret_bench, first)
    rest = [one for one in SECRET_RIGHTS if one != right]
    secret_bench.target.allow(secret_bench.admin_name, rest)
    if right.rpartition(":")[2] in {"DescribeSecret", "GetSecretValue"}:
        [found] = problems(secret_bench)
        assert f"lacks the right {right}" in found
        assert secret_bench.destination.verify(secret_bench.call(), first).state is State.PENDING
    else:
        with pytest.raises(Denied, match=f"lacks the right {right}"):
            put_live(secret_bench, second, first)
    assert secret_bench.consumed() == secret_of(first)


def test_check_names_what_is_in_the_way(secret_bench):
    absent = with_options(secret_bench, secret="orders/none")
    assert any("no such thing" in text and "Make the secret" in text for text in problems(absent))
    assert absent.destination.remove(absent.call(), make_version().id) is None
    bad = [{"secret": "a b"}, {"parts": "value"}, {"format": "text", "parts": "a=A b=B"}]
    for options in bad:
        assert problems(with_options(secret_bench, **options))
    put_live(secret_bench, make_version())
    secret_bench.consumer.delete_secret(SecretId=secret_bench.name)
    assert any("Restore it" in text for text in problems(secret_bench))


def test_a_secret_that_is_marked_for_deletion_gets_no_version(secret_bench):
    secret_bench.consumer.delete_secret(SecretId=secret_bench.name)
    assert any("Restore it" in text for text in problems(secret_bench))
    with pytest.raises(Misconfigured, match="marked for deletion"):
        put_live(secret_bench, make_version())


def test_a_wrong_access_key_is_denied(secret_bench):
    wrong = {**secret_bench.admin, "secret_access_key": Secret.of("w" * 40)}
    bench = replace(secret_bench, admin=wrong)
    with pytest.raises(Denied, match="does not belong to the access key"):
        bench.destination.observe(bench.call())
    assert any("Enter an active access key" in text for text in problems(bench))


@pytest.mark.parametrize("version_id", ["short", "x" * 65, "with spaces in it and so on and on"])
def test_an_id_that_aws_does_not_take_is_named(secret_bench, version_id):
    with pytest.raises(Misconfigured, match="none that AWS takes"):
        put_live(secret_bench, replace(make_version(), id=version_id))


def test_throttling_is_transient_and_says_when(secret_bench):
    first, second = make_version(1), make_version(2)
    put_live(secret_bench, first)
    body = b'{"__type": "ThrottlingException", "message": "Rate exceeded"}'
    reply = answer(body, headers=b"Retry-After: 3\r\n")
    with (
        secret_bench.proxy.failing(Fault.REPLY, secret_bench.change, reply),
        pytest.raises(Transient) as late,
    ):
        put_live(secret_bench, second, first)
    assert late.value.retry_after_s == 3.0
    assert secret_bench.consumed() == secret_of(first)
