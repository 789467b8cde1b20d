"""Keys of providers over HTTP from request to end, over the fakes of their servers."""

from __future__ import annotations

import json

import pytest
from django.db import transaction

from approvals.ports import Unfinished
from keyvault.actions import key_plan
from keyvault.connections import context, issuing, reconcile
from keyvault.connections.models import Attempt, AttemptState
from keyvault.crypto.secret import Secret
from keyvault.findings.models import Finding
from keyvault.plugins.errors import Misconfigured
from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.vault import sealing
from keyvault.vault import selectors as versions
from tests.contracts.test_generic_http import REQUESTS
from tests.contracts.vendors.cloudflare_server import DNS_READ, CloudflareServer
from tests.contracts.vendors.declared_server import DeclaredServer
from tests.contracts.vendors.server import serving
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db
OPTIONS = {
    "cloudflare": {"permission_groups": DNS_READ},
    "http": {"parameters": "role = writer"},
}


@pytest.fixture(params=["cloudflare", "http"])
def kind(request):
    return request.param


@pytest.fixture
def server(kind):
    made = CloudflareServer() if kind == "cloudflare" else DeclaredServer()
    with serving(made) as running:
        yield running


@pytest.fixture
def proxy(server):
    with FaultProxy("127.0.0.1", server.port) as between:
        yield between


@pytest.fixture
def where(cast, kind, server, proxy):
    """A Connection to the fake, with its credential."""
    address = f"http://127.0.0.1:{proxy.port}"
    config = {"url": f"{address}/v1/accounts/42", "requests": json.dumps(REQUESTS)}
    if kind == "cloudflare":
        config = {"url": f"{address}/client/v4", "account": server.add_account().id}
    made = rows.connection(
        cast, provider=kind, config=config, allowed_hosts=[address], credential_number=1
    )
    name = "api_token" if kind == "cloudflare" else "admin"
    with transaction.atomic():
        place = context.credential_place(made)
        sealing.put(place, {name: Secret.of(server.admin)}, now=cast.now)
    return made


@pytest.fixture
def key(cast, kind, where):
    return rows.key(cast, where, options=OPTIONS[kind])


def living(server):
    """Return the ids of the credentials that the fake has."""
    if isinstance(server, DeclaredServer):
        return set(server.keys)
    return {token for account in server.accounts.values() for token in account.tokens}


def issue(key, request_id, run):
    return issuing.issue(key=key, request_id=request_id, run=run, actor=WORKER)


def test_a_key_is_made_listed_and_ended(key, server, where, request_id, claims):
    version = issue(key, request_id, claims.claim())
    assert living(server) == {version.remote_id}
    assert version.state == "current"

    reconcile.look(where.pk, claims.claim())
    assert not Finding.objects.exists()

    issuing.revoke(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)
    assert living(server) == set()
    assert versions.live(key.pk) == []


def test_r56_a_lost_answer_ends_the_orphan_and_leaves_one_key(
    key, server, proxy, request_id, claims
):
    with proxy.failing(Fault.LOSE_ANSWER, rb'"name"|"label"'), pytest.raises(Unfinished):
        issue(key, request_id, claims.claim())
    assert proxy.hits
    [orphan] = living(server)

    version = issue(key, request_id, claims.claim())

    assert living(server) == {version.remote_id} != {orphan}
    lost, made = Attempt.objects.order_by("number")
    assert (lost.state, made.state) == (AttemptState.FAILED, AttemptState.DONE)


def test_the_inventory_ends_what_a_paused_worker_left(key, server, where, request_id, claims):
    version = issue(key, request_id, claims.claim())
    attempt = Attempt.objects.get()
    issuing.revoke(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)
    late = attempt.tag
    if isinstance(server, DeclaredServer):
        server.add(late)
    else:
        server.add_token(next(iter(server.accounts.values())), late)
    assert living(server) != {version.remote_id}

    reconcile.look(where.pk, claims.claim())

    assert living(server) == set()


def test_settings_that_cannot_work_are_refused_while_a_key_is_asked_for(kind, where):
    """Before people sign, and without a call."""
    assert key_plan.foreseen(where, OPTIONS[kind]) == ()
    wrong = {"cloudflare": {"permission_groups": "DNS"}, "http": {"parameters": "team = a"}}
    with pytest.raises(Misconfigured):
        key_plan.foreseen(where, wrong[kind])
