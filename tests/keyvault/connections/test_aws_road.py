"""An access key of AWS on the product's own road: issued, listed, lost and found, revoked.

The server is moto, which checks signatures and policies; see docs/providers/aws-iam.md.
"""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.ports import NeedsPerson, Unfinished
from keyvault.audit.models import Event
from keyvault.connections import context, issuing, reconcile
from keyvault.connections.models import Attempt, AttemptState, Connection
from keyvault.findings.models import Finding
from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.vault import sealing
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from tests.contracts import aws_servers
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with aws_servers.moto(tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture
def proxy(target):
    with FaultProxy("127.0.0.1", target.port) as running:
        yield running


@pytest.fixture
def key(cast, target, proxy):
    """Return a key of a Connection that has the documented rights and leads to moto."""
    word = uuid4().hex[:12]
    target.client("iam").create_user(UserName=f"app-{word}", Path=f"/t-{word}/")
    address = f"http://127.0.0.1:{proxy.port}"
    where = rows.connection(
        cast,
        provider="aws_iam",
        config={"account": aws_servers.ACCOUNT, "path": f"/t-{word}/", "endpoint": address},
        allowed_hosts=[address],
        credential_number=1,
    )
    admin = target.user(f"admin-{word}", "/admins/", aws_servers.IAM_RIGHTS)
    with transaction.atomic():
        sealing.put(context.credential_place(where), admin, now=cast.now)
    return rows.key(cast, where, options={"user": f"app-{word}"})


@pytest.fixture
def held(target, key):
    """Return a function that gives the ids of the access keys which the user has at AWS."""

    def ids():
        found = target.client("iam").list_access_keys(UserName=key.options["user"])
        return sorted(one["AccessKeyId"] for one in found["AccessKeyMetadata"])

    return ids


def _issue(key, request_id, run):
    return issuing.issue(key=key, request_id=request_id, run=run, actor=WORKER)


def _secret(version, now):
    opened = vault.open_material(version_id=version.pk, actor=WORKER, now=now, purpose="test")
    return opened["secret_access_key"].reveal().decode()


def test_a_key_is_issued_works_and_is_revoked(key, request_id, claims, target, held, now):
    version = _issue(key, request_id, claims.claim())

    key_id = version.public["access_key_id"]
    assert held() == [key_id]
    identity = target.client("sts", key_id, _secret(version, now)).get_caller_identity()
    assert identity["Arn"].endswith(f"/{key.options['user']}")

    issuing.revoke(key=key, request_id=uuid4(), run=claims.claim(), actor=WORKER)

    assert held() == []
    assert versions.current(key.pk) is None


def test_the_ledger_names_the_key_and_never_its_secret(key, request_id, claims, now):
    version = _issue(key, request_id, claims.claim())
    secret = _secret(version, now)

    written = str(list(Event.objects.values("event", "fields")))

    assert version.remote_id in written
    assert secret not in written + str(version.remote) + str(version.public)


def test_a_lost_answer_leaves_one_key_at_aws(key, request_id, claims, proxy, held):
    with (
        proxy.failing(Fault.LOSE_ANSWER, b"Action=CreateAccessKey"),
        pytest.raises(Unfinished),
    ):
        _issue(key, request_id, claims.claim())
    assert proxy.hits == 1
    [lost] = held()

    version = _issue(key, request_id, claims.claim())

    assert held() == [version.public["access_key_id"]] != [lost]
    states = set(Attempt.objects.values_list("state", flat=True))
    assert states == {AttemptState.FAILED, AttemptState.DONE}


def test_a_full_user_waits_and_loses_nothing(key, request_id, claims, target, held):
    iam = target.client("iam")
    for _ in range(2):
        iam.create_access_key(UserName=key.options["user"])
    before = held()

    with pytest.raises((NeedsPerson, Unfinished), match="two access keys"):
        _issue(key, request_id, claims.claim())

    assert held() == before


def test_a_key_that_somebody_deleted_is_reported(key, request_id, claims, target):
    version = _issue(key, request_id, claims.claim())
    reconcile.look(key.connection_id, claims.claim())
    assert not Finding.objects.exists()

    target.client("iam").delete_access_key(
        UserName=key.options["user"], AccessKeyId=version.public["access_key_id"]
    )
    reconcile.look(Connection.objects.get().pk, claims.claim())

    assert version.remote_id in Finding.objects.get().detail
