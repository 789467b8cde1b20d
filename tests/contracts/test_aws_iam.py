"""What AWS IAM in particular must and must not do, before moto."""

from __future__ import annotations

import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keyvault import outbound
from keyvault.crypto.secret import Secret
from keyvault.plugins.faults import Fault
from keyvault.providers.base import (
    Ambiguous,
    Conflict,
    Denied,
    Misconfigured,
    NotFound,
    Transient,
    Verdict,
)
from keyvault.providers.testing import Bench, ProviderConformance, listed, make
from keyvault.providers.testing.bench import prepare
from keyvault.providers.testing.suite import revoke
from tests.contracts.aws_bench import IamBench, answer
from tests.contracts.aws_servers import IAM_RIGHTS


class TestAwsIam(ProviderConformance):
    # What its kind cannot do is no promise of it.
    test_revoke_ends_sessions_only_when_told = None

    @pytest.fixture
    def bench(self, iam_bench: Bench) -> Bench:
        return iam_bench


def with_settings(bench: IamBench, **config: str) -> IamBench:
    return replace(bench, config={**bench.config, **config})


def answering(bench: IamBench, code: str, *, status: int = 400, headers: bytes = b"", text=""):
    """Have every answer be this error, in the form of IAM."""
    body = f"<ErrorResponse><Error><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
    reply = answer(body.encode(), status=status, headers=headers)
    return bench.proxy.failing(Fault.REPLY, b"Action=", reply)


def problems(bench: IamBench) -> list[str]:
    return [f"{found.sentence} {found.mend}" for found in bench.provider.check(bench.call())]


def test_an_inactive_key_counts_for_the_quota_and_is_named(iam_bench):
    old = make(iam_bench).issued
    new = make(iam_bench, old).issued
    iam_bench.provider.suspend(iam_bench.call(), old.key())
    with pytest.raises(Conflict) as full:
        prepare(iam_bench)
    assert f"{old.public['access_key_id']} (inactive)" in full.value.sentence
    assert f"{new.public['access_key_id']} (active)" in full.value.sentence


def test_a_key_that_somebody_made_meanwhile_is_a_conflict_and_stays(iam_bench):
    make(iam_bench)
    planned = prepare(iam_bench)
    iam = iam_bench.target.client("iam")
    theirs = iam.create_access_key(UserName=iam_bench.options["user"])["AccessKey"]
    with pytest.raises(Conflict, match="quota"):
        iam_bench.provider.create(iam_bench.call(), planned)
    names = [key.hint for key in listed(iam_bench).values()]
    assert theirs["AccessKeyId"] in names


def test_what_was_there_before_is_never_found(iam_bench):
    before = make(iam_bench).issued
    made = make(iam_bench, before)
    [found] = iam_bench.provider.find(iam_bench.call(), made.attempt)
    assert (found.remote_id, found.tag) == (made.issued.remote_id, made.attempt.tag)


def test_of_two_new_keys_neither_is_taken_for_ours(iam_bench):
    planned = prepare(iam_bench)
    iam_bench.provider.create(iam_bench.call(), planned)
    iam_bench.target.client("iam").create_access_key(UserName=iam_bench.options["user"])
    with pytest.raises(Conflict, match="one is not ours"):
        iam_bench.provider.find(iam_bench.call(), planned)
    assert len(listed(iam_bench)) == 2


def test_a_form_that_cannot_work_is_refused_before_anybody_signs(iam_bench):
    assert list(iam_bench.provider.foresee(iam_bench.call())) == []
    with pytest.raises(Misconfigured):
        iam_bench.provider.foresee(replace(iam_bench, options={"user": "a/b"}).call())


def test_last_use_is_what_aws_saw(iam_bench):
    provider, issued = iam_bench.provider, make(iam_bench).issued
    assert provider.last_use(iam_bench.call(), issued.key()).at is None
    before = datetime.now(UTC) - timedelta(seconds=2)
    provider.validate(iam_bench.call(), issued)
    seen = provider.last_use(iam_bench.call(), issued.key()).at
    assert seen is not None
    assert before < seen < datetime.now(UTC) + timedelta(seconds=2)
    gone = replace(issued.key(), remote_id=f"{iam_bench.options['user']}/AKIA0000000000000000")
    with pytest.raises(NotFound):
        provider.last_use(iam_bench.call(), gone)


def test_a_wrong_secret_is_denied_and_its_key_invalid(iam_bench):
    issued = make(iam_bench).issued
    wrong = {**iam_bench.admin, "secret_access_key": Secret.of("w" * 40)}
    bench = replace(iam_bench, admin=wrong)
    with pytest.raises(Denied, match="SignatureDoesNotMatch"):
        prepare(bench)
    assert any("SignatureDoesNotMatch" in text for text in problems(bench))
    forged = replace(issued, material={"secret_access_key": Secret.of("w" * 40)})
    found = iam_bench.provider.validate(iam_bench.call(), forged)
    assert found.verdict is Verdict.INVALID


def test_a_clock_that_differs_is_no_verdict(iam_bench):
    issued = make(iam_bench).issued
    said = "Signature expired: 20261127T000000Z is now earlier than 20261127T001000Z"
    with answering(iam_bench, "SignatureDoesNotMatch", status=403, text=said):
        found = iam_bench.provider.validate(iam_bench.call(), issued)
        assert found.verdict is Verdict.UNKNOWN
        with pytest.raises(Denied, match="clock"):
            prepare(iam_bench)


@pytest.mark.parametrize(
    ("code", "status", "headers", "seconds"),
    [
        ("Throttling", 400, b"", 5.0),
        ("Throttling", 400, b"Retry-After: 7\r\n", 7.0),
        ("RequestLimitExceeded", 503, b"Retry-After: 999999\r\n", 3600.0),
        ("Anything", 429, b"Retry-After: soon\r\n", 5.0),
    ],
)
def test_throttling_is_transient_and_says_when(iam_bench, code, status, headers, seconds):
    planned = prepare(iam_bench)
    with (
        answering(iam_bench, code, status=status, headers=headers),
        pytest.raises(Transient) as late,
    ):
        iam_bench.provider.create(iam_bench.call(), planned)
    assert late.value.retry_after_s == seconds
    assert iam_bench.provider.find(iam_bench.call(), planned) == []


def test_a_fault_of_aws_is_ambiguous_after_a_change_only(iam_bench):
    planned = prepare(iam_bench)
    with answering(iam_bench, "InternalFailure", status=500):
        with pytest.raises(Ambiguous):
            iam_bench.provider.create(iam_bench.call(), planned)
        with pytest.raises(Transient):
            iam_bench.provider.find(iam_bench.call(), planned)


def test_an_answer_that_declares_entities_is_not_read(iam_bench):
    planned = prepare(iam_bench)
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><ListUsersResponse>&b;</x>'
    reply = answer(bomb, status=200)
    with iam_bench.proxy.failing(Fault.REPLY, b"Action=", reply):
        with pytest.raises(Transient):
            iam_bench.provider.find(iam_bench.call(), planned)
        with pytest.raises(Ambiguous):
            iam_bench.provider.create(iam_bench.call(), planned)


@pytest.mark.parametrize(
    "right", [right for right in IAM_RIGHTS if "List" in right or "Get" in right]
)
def test_check_names_each_missing_right_to_read_and_its_mend(iam_bench, right):
    make(iam_bench)
    assert problems(iam_bench) == []
    iam_bench.target.allow(iam_bench.admin_name, [one for one in IAM_RIGHTS if one != right])
    [found] = problems(iam_bench)
    assert f"lacks the right {right}" in found
    assert "Allow it to the admin's user" in found


@pytest.mark.parametrize(
    ("right", "act"),
    [
        ("iam:CreateAccessKey", lambda bench, made: make(bench)),
        ("iam:DeleteAccessKey", lambda bench, made: revoke(bench, made.issued)),
        (
            "iam:UpdateAccessKey",
            lambda bench, made: bench.provider.suspend(bench.call(), made.issued.key()),
        ),
    ],
)
def test_a_missing_right_to_write_is_named_when_it_is_used(iam_bench, right, act):
    made = make(iam_bench)
    iam_bench.target.allow(iam_bench.admin_name, [one for one in IAM_RIGHTS if one != right])
    with pytest.raises(Denied, match=f"lacks the right {right}"):
        act(iam_bench, made)
    assert iam_bench.provider.validate(iam_bench.call(), made.issued).verdict is Verdict.VALID


def test_check_without_a_key_looks_at_any_user_below_the_path(iam_bench):
    alone = replace(iam_bench, options={})
    assert problems(alone) == []
    iam_bench.target.allow(iam_bench.admin_name, ["iam:ListUsers", "iam:GetUser"])
    [found] = problems(alone)
    assert "iam:ListAccessKeys" in found
    [empty] = alone.provider.check(with_settings(alone, path="/nobody-here/").call())
    assert "no IAM user below the path" in empty.sentence
    assert not empty.is_fatal


def test_check_names_a_user_that_is_not_there(iam_bench):
    [found] = problems(replace(iam_bench, options={"user": "nobody-at-all"}))
    assert "no such IAM user" in found


def test_absent_in_another_account_is_not_ended(iam_bench):
    """The admin's access key was replaced by one of another account, which knows no such key."""
    issued = make(iam_bench).issued
    revoke(iam_bench, issued)
    elsewhere = with_settings(iam_bench, account="999999999999")
    for attempted in (lambda: revoke(elsewhere, issued), lambda: prepare(elsewhere)):
        with pytest.raises(Misconfigured, match="belongs to the account 123456789012"):
            attempted()
    assert any("belongs to the account" in text for text in problems(elsewhere))


def test_users_of_another_path_get_no_keys_and_are_not_listed(iam_bench):
    issued = make(iam_bench).issued
    elsewhere = with_settings(iam_bench, path="/somewhere-else/")
    with pytest.raises(Misconfigured, match="not below the path"):
        prepare(elsewhere)
    assert listed(elsewhere) == {}
    assert set(listed(iam_bench)) == {issued.remote_id}


def test_the_inventory_knows_what_others_made_and_what_is_off(iam_bench):
    issued = make(iam_bench).issued
    iam = iam_bench.target.client("iam")
    theirs = iam.create_access_key(UserName=iam_bench.options["user"])["AccessKey"]["AccessKeyId"]
    iam_bench.provider.suspend(iam_bench.call(), issued.key())
    found = {key.hint: key.is_enabled for key in listed(iam_bench).values()}
    assert found == {issued.public["access_key_id"]: False, theirs: True}


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ({"account": "12345"}, {}),
        ({"region": "eu-central-1.evil.example/"}, {}),
        ({"path": "keyvault"}, {}),
        ({}, {"user": ""}),
        ({}, {"user": "a/b"}),
    ],
)
def test_settings_that_cannot_work_are_named_before_anything_is_sent(iam_bench, config, options):
    bench = replace(with_settings(iam_bench, **config), options={**iam_bench.options, **options})
    with pytest.raises(Misconfigured):
        prepare(bench)
    assert listed(iam_bench) == {}


@pytest.mark.parametrize("part", ["access_key_id", "secret_access_key"])
def test_an_admin_key_with_odd_characters_is_named_without_its_value(iam_bench, part):
    bench = replace(iam_bench, admin={**iam_bench.admin, part: Secret.of("canary\r\nx: \u00e9")})
    with pytest.raises(Misconfigured) as refused:
        prepare(bench)
    assert "canary" not in "".join(traceback.format_exception(refused.value))


def test_r41_an_endpoint_that_is_not_approved_is_not_reached(iam_bench):
    call = replace(iam_bench.call(), guard=outbound.Guard())
    with pytest.raises(Misconfigured, match="https"):
        iam_bench.provider.prepare(call, "a" * 32, 1, None)
