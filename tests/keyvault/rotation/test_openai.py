"""A rotation at OpenAI's fake: lost answers, two keys side by side, and the vendor's word on use."""

from __future__ import annotations

import time

import pytest
from django.db import transaction

from keyvault.connections import context
from keyvault.crypto.secret import Secret
from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.vault import sealing
from keyvault.vault import selectors as versions
from tests.contracts.vendors.openai_server import OpenAIServer
from tests.contracts.vendors.server import serving
from tests.keyvault.vault import rows

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server():
    with serving(OpenAIServer()) as running:
        yield running


@pytest.fixture
def project(server):
    return server.add_project()


@pytest.fixture
def proxy(server):
    with FaultProxy("127.0.0.1", server.port) as between:
        yield between


@pytest.fixture
def where(cast, server, project, proxy):
    """Stand in for the fake Connection of the other tests."""
    url = f"http://127.0.0.1:{proxy.port}"
    made = rows.connection(
        cast,
        provider="openai",
        config={
            "url": url,
            "project": project.id,
            "service_account": server.add_account(project),
        },
        allowed_hosts=[url],
        credential_number=1,
    )
    with transaction.atomic():
        admin = {"admin_key": Secret.of(server.admin)}
        sealing.put(context.credential_place(made), admin, now=cast.now)
    return made


def test_the_old_key_is_deleted_once_the_vendor_says_that_it_is_silent(
    begin, work, later, rolled_out, key, project
):
    old = versions.current(key.pk)
    rotation = rolled_out(begin())
    assert rotation.state == "draining"
    assert len(project.keys) == 2

    later(rotation, 50)
    project.keys[old.remote_id].last_used_at = int(time.time())
    still = work(rotation)
    assert still.state == "draining", "somebody uses the old key"
    assert len(project.keys) == 2

    project.keys[old.remote_id].last_used_at = int(time.time()) - 3600
    later(rotation, 50)
    done = work(rotation)
    assert done.state == "completed"
    assert set(project.keys) == {versions.current(key.pk).remote_id}
    assert versions.version(old.pk).state == "revoked"


def test_r56_a_lost_answer_to_the_new_key_leaves_the_old_and_one_new(
    begin, work, rolled_out, key, project, proxy
):
    old = versions.current(key.pk)
    rotation = begin()
    with proxy.failing(Fault.LOSE_ANSWER, b'"name"'):
        assert work(rotation).state == "reconciling"
    assert len(project.keys) == 2, "the old one, and one whose value nobody knows"
    [orphan] = set(project.keys) - {old.remote_id}

    assert rolled_out(rotation).state == "draining"

    assert orphan not in project.keys
    assert set(project.keys) == {old.remote_id, versions.current(key.pk).remote_id}
