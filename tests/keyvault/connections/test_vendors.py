"""Keys of OpenAI and Anthropic from request to end, over the fakes of their servers.

What the provider's recovery class promises is only worth something with what stands around it:
the attempt that is written first, the orphan that is ended, the person who is waited for.
"""

from __future__ import annotations

import pytest
from django.db import transaction

from approvals.ports import NeedsPerson, NotVisible, Unfinished
from keyvault.connections import attempts, context, intake, issuing, reconcile, selectors
from keyvault.connections.models import Act, Attempt, AttemptState, Connection
from keyvault.crypto.secret import Secret
from keyvault.findings.models import Finding
from keyvault.plugins.faults import Fault, FaultProxy
from keyvault.vault import sealing
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from tests.contracts.vendors.anthropic_server import AnthropicServer
from tests.contracts.vendors.openai_server import OpenAIServer
from tests.contracts.vendors.server import serving
from tests.keyvault.connections.fakes import Crash
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db


@pytest.fixture
def openai():
    with serving(OpenAIServer()) as running:
        yield running


@pytest.fixture
def project(openai):
    return openai.add_project()


@pytest.fixture
def proxy(openai):
    with FaultProxy("127.0.0.1", openai.port) as between:
        yield between


@pytest.fixture
def agent(cast, openai, project, proxy):
    """A key at a Connection to the OpenAI fake."""
    where = _connection(cast, "openai", proxy.port, openai.admin, project=project.id)
    options = {"service_account": openai.add_account(project)}
    return rows.key(cast, where, options=options)


@pytest.fixture
def anthropic():
    with serving(AnthropicServer()) as running:
        yield running


@pytest.fixture
def handmade(cast, anthropic):
    """A key at a Connection to the Anthropic fake."""
    where = _connection(cast, "anthropic", anthropic.port, anthropic.admin)
    return rows.key(cast, where)


def _connection(cast, kind, port, admin, **config):
    where = rows.connection(
        cast,
        provider=kind,
        config={"url": f"http://127.0.0.1:{port}", **config},
        allowed_hosts=[f"http://127.0.0.1:{port}"],
        credential_number=1,
    )
    with transaction.atomic():
        place = context.credential_place(where)
        sealing.put(place, {"admin_key": Secret.of(admin)}, now=cast.now)
    return where


def _issue(key, request_id, run):
    return issuing.issue(key=key, request_id=request_id, run=run, actor=WORKER)


def _revoke(key, request_id, run):
    issuing.revoke(key=key, request_id=request_id, run=run, actor=WORKER)


def _look(key, claims):
    reconcile.look(key.connection_id, claims.claim())


def _value(version, now):
    opened = vault.open_material(version_id=version.pk, actor=WORKER, now=now, purpose="test")
    return opened["api_key"].reveal().decode()


def test_a_key_is_made_tried_listed_and_ended(agent, openai, project, request_id, claims, now):
    version = _issue(agent, request_id, claims.claim())

    [key] = project.keys.values()
    assert (version.remote_id, version.state) == (key.id, "current")
    assert key.name == Attempt.objects.get().tag
    assert key.last_used_at is not None, "it was tried before it was promoted"
    assert _value(version, now).startswith("sk-svcacct-")
    openai.add_person_key(project)
    _look(agent, claims)
    assert Connection.objects.get().foreign_count == 1
    assert not Finding.objects.exists()

    _revoke(agent, request_id, claims.claim())

    assert [key.owner["type"] for key in project.keys.values()] == ["user"]
    assert versions.live(agent.pk) == []


def test_r56_a_lost_answer_ends_the_orphan_and_leaves_one_key(
    agent, project, proxy, request_id, claims
):
    with proxy.failing(Fault.LOSE_ANSWER, b'"name"'), pytest.raises(Unfinished):
        _issue(agent, request_id, claims.claim())
    [orphan] = project.keys

    version = _issue(agent, request_id, claims.claim())

    assert set(project.keys) == {version.remote_id}
    assert orphan != version.remote_id
    lost, made = Attempt.objects.order_by("number")
    assert (lost.state, made.state) == (AttemptState.FAILED, AttemptState.DONE)
    assert orphan in lost.note


def test_r56_a_lost_request_is_planned_anew(agent, project, proxy, request_id, claims):
    with proxy.failing(Fault.LOSE_REQUEST, b'"name"'), pytest.raises(Unfinished):
        _issue(agent, request_id, claims.claim())
    assert project.keys == {}

    version = _issue(agent, request_id, claims.claim())

    assert set(project.keys) == {version.remote_id}
    assert Attempt.objects.get(number=1).state == AttemptState.ORPHANED


def test_r55_a_worker_that_dies_with_the_value_in_hand_leaves_one_key(
    agent, project, request_id, claims
):
    with pytest.raises(Crash):
        _issue(agent, request_id, claims.claim(crash_at="create:called"))
    assert len(project.keys) == 1

    version = _issue(agent, request_id, claims.claim())

    assert set(project.keys) == {version.remote_id}


def test_a_key_that_appears_after_its_attempt_was_given_up_is_ended_by_the_inventory(
    agent, openai, project, request_id, claims, proxy
):
    with proxy.failing(Fault.LOSE_REQUEST, b'"name"'), pytest.raises(Unfinished):
        _issue(agent, request_id, claims.claim())
    version = _issue(agent, request_id, claims.claim())
    late = openai.add_person_key(project, Attempt.objects.get(number=1).tag)

    _look(agent, claims)

    assert late not in project.keys
    assert set(project.keys) == {version.remote_id}
    assert Finding.objects.get(kind="orphan").closing == "It was revoked at the provider."


def test_a_limit_is_tried_again_later_and_leaves_nothing(
    agent, openai, project, request_id, claims
):
    openai.limit()
    with pytest.raises(Unfinished) as caught:
        _issue(agent, request_id, claims.claim())
    assert caught.value.code == "transient"
    assert not isinstance(caught.value, NeedsPerson)
    _issue(agent, request_id, claims.claim())
    assert len(project.keys) == 1


def test_a_person_makes_the_key_and_calls_do_the_rest(
    handmade, anthropic, cast, request_id, claims, now
):
    with pytest.raises(NeedsPerson, match="A person creates"):
        _issue(handmade, request_id, claims.claim())
    assert selectors.awaits_intake(handmade.pk)
    task = intake.task(key=handmade, person=cast.alice)
    assert [field.name for field in task.fields] == ["api_key"]
    key_id, value = anthropic.make_key(task.tag)

    intake.intake(key=handmade, person=cast.alice, typed={"api_key": value}, now=now)
    version = _issue(handmade, request_id, claims.claim())

    assert (version.remote_id, version.state) == (key_id, "current")
    assert _value(version, now) == value
    _look(handmade, claims)
    assert not Finding.objects.exists()
    _revoke(handmade, request_id, claims.claim())
    assert anthropic.keys[key_id].status == "archived"
    assert versions.live(handmade.pk) == []


def test_a_wrong_value_is_said_to_the_person_and_the_job_waits_on(
    handmade, anthropic, cast, request_id, claims, now
):
    with pytest.raises(NeedsPerson):
        _issue(handmade, request_id, claims.claim())
    _, other = anthropic.make_key("production")

    with pytest.raises(intake.NotTaken, match="No active key has the name") as caught:
        intake.intake(key=handmade, person=cast.alice, typed={"api_key": other}, now=now)

    assert other not in str(caught.value)
    assert selectors.awaits_intake(handmade.pk)


def test_an_unclear_trial_of_a_handmade_key_is_no_proof(
    handmade, anthropic, cast, request_id, claims, now
):
    """A vendor that can be asked is asked until it answers; only where nobody can, it is left."""
    version = _handed_over(handmade, anthropic, cast, request_id, claims, now)
    anthropic.fail(529)

    with pytest.raises(Unfinished, match="could not be tried"):
        _issue(handmade, request_id, claims.claim())

    assert versions.current(handmade.pk) is None
    assert _issue(handmade, request_id, claims.claim()).pk == version.pk


def test_nobodys_word_replaces_the_call_that_ends_a_key(
    handmade, anthropic, cast, request_id, claims, now
):
    _handed_over(handmade, anthropic, cast, request_id, claims, now)
    version = _issue(handmade, request_id, claims.claim())
    anthropic.fail(500)
    with pytest.raises(Unfinished):
        _revoke(handmade, request_id, claims.claim())
    assert attempts.open_attempt(act=Act.REVOKE, key_id=handmade.pk)

    assert not selectors.awaits_confirmation(handmade.pk)
    with pytest.raises(NotVisible):
        intake.confirm_revoked(key=handmade, person=cast.alice, now=now)

    _revoke(handmade, request_id, claims.claim())
    assert anthropic.keys[version.remote_id].status == "archived"


def test_a_key_that_was_made_and_never_handed_over_is_ended_by_the_inventory(
    handmade, anthropic, cast, request_id, claims
):
    with pytest.raises(NeedsPerson):
        _issue(handmade, request_id, claims.claim())
    key_id, _ = anthropic.make_key(intake.task(key=handmade, person=cast.alice).tag)
    _revoke(handmade, request_id, claims.claim())

    _look(handmade, claims)

    assert anthropic.keys[key_id].status == "archived"


def test_a_key_that_somebody_switched_off_is_a_finding(
    handmade, anthropic, cast, request_id, claims, now
):
    _handed_over(handmade, anthropic, cast, request_id, claims, now)
    version = _issue(handmade, request_id, claims.claim())
    anthropic.keys[version.remote_id].status = "inactive"

    _look(handmade, claims)

    assert Finding.objects.get().kind == "dead"


def _handed_over(key, server, cast, request_id, claims, now):
    """Let a person make the key and paste it; return its version, not yet promoted."""
    with pytest.raises(NeedsPerson):
        _issue(key, request_id, claims.claim())
    _, value = server.make_key(intake.task(key=key, person=cast.alice).tag)
    intake.intake(key=key, person=cast.alice, typed={"api_key": value}, now=now)
    return versions.pending(key.pk)


@pytest.mark.parametrize(
    ("kind", "is_shown"), [("openai", True), ("anthropic", True), ("valkey", False)]
)
def test_the_page_says_what_was_never_verified_against_the_vendor(cast, client_for, kind, is_shown):
    rows.connection(cast, provider=kind, config={"project": "p", "host": "h", "user": "u"})

    page = client_for(cast.frank).get("/connections/orders/").content.decode()

    assert ("Not verified against the vendor" in page) is is_shown
