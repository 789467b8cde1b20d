"""A key that somebody made at OpenAI's fake: seen, adopted with its id, rotated and ended there."""

from __future__ import annotations

import time

import pytest
from django.db import transaction

from keyvault.connections import adopting, issuing, reconcile, shadows
from keyvault.vault import selectors as versions
from tests.keyvault.rotation.test_openai import project, proxy, server, where  # noqa: F401
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def made_by_ann(server, project):  # noqa: F811
    """The value of a key that a person made in the vendor's console."""
    _, value = server._add(project, "Ann's key", {"type": "user", "user": {"id": "user_1"}})
    return value


@pytest.fixture
def key(cast, where, options, request_id, claims, made_by_ann):  # noqa: F811
    """A live key of that value, whose id the look at the vendor has shown."""
    reconcile.look(where.pk, claims.claim())
    (seen,) = shadows.shadows(where.pk)
    made = rows.key(cast, where, request_id=request_id, options=options)
    with transaction.atomic():
        more = {"actor": WORKER, "now": cast.now}
        adopting.propose(key=made, value=made_by_ann, remote_id=seen.remote_id, **more)
        adopting.bind(key_ids=[made.pk], request_id=request_id)
        adopting.take(key=made, request_id=request_id, **more)
    made.state, made.live_at = "live", cast.now
    made.expires_at = cast.now.replace(year=cast.now.year + 1)
    made.save()
    return made


def test_the_first_rotation_ends_the_adopted_key_once_the_vendor_says_that_it_is_silent(
    begin,
    work,
    later,
    rolled_out,
    key,
    project,  # noqa: F811
):
    old = versions.current(key.pk)
    assert set(project.keys) == {old.remote_id}
    rotation = begin()

    assert rolled_out(rotation).state == "draining"
    assert len(project.keys) == 2, "both work until the vendor has seen no use of the old one"
    later(rotation, 50)
    project.keys[old.remote_id].last_used_at = int(time.time())
    assert work(rotation).state == "draining", "somebody uses the adopted value elsewhere"

    project.keys[old.remote_id].last_used_at = int(time.time()) - 3600
    later(rotation, 50)
    assert work(rotation).state == "completed"
    assert set(project.keys) == {versions.current(key.pk).remote_id}
    assert not shadows.shadows(key.connection_id)


def test_the_adopted_key_is_tried_by_its_value_alone(key, claims):
    errand = issuing.Errand(key, key.request_id, claims.claim(), WORKER)

    assert issuing.try_again(errand, versions.current(key.pk)) == "valid"
