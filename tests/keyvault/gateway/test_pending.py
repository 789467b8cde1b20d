"""The version that a rotation has laid ready: for its own dependents alone, while it is so, and proof of nothing."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from keyvault.agents.models import Agent, AgentState
from keyvault.audit.reads import selectors as reads
from keyvault.crypto.secret import Secret
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Health
from keyvault.inventory import grants
from keyvault.rotation import evidence, services
from keyvault.rotation.models import Trigger
from keyvault.rotation.saga import State
from keyvault.vault import services as vault
from keyvault.vault.services import Credential
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders
from tests.keyvault.reads.builders import shipped

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/v1/keys/ledger-reader?version=pending"
_ROLLED_OUT = (State.CREATING, State.CREATED, State.VALIDATED, State.STAGED, State.PROMOTING)


@pytest.fixture
def deal(cast):
    return builders.deal(cast)


@pytest.fixture
def dependent(cast, deal):
    """The agent of the deal, registered as one that reads."""
    with transaction.atomic():
        return dependents.register(
            key=deal.key,
            name=deal.agent.name,
            agent_id=deal.agent.pk,
            health=Health.READS,
            now=cast.now,
            actor=agents.TESTS,
        )


@pytest.fixture
def rotate(cast, deal):
    """Bring a rotation with a pending version up to a state; return both."""

    def call(until=State.PROMOTING, value="s3cret-2"):
        with transaction.atomic():
            version = vault.begin(
                key_id=deal.key.pk, request_id=uuid4(), server={}, now=cast.now, actor=agents.TESTS
            )
            vault.store(
                version_id=version.pk,
                credential=Credential(
                    remote_id="remote-2",
                    remote={},
                    public={},
                    material={"value": Secret.of(value)},
                ),
                provider="manual",
                now=cast.now,
                actor=agents.TESTS,
            )
            rotation = services.begin(
                key_id=deal.key.pk,
                trigger=Trigger.MANUAL,
                request_id=uuid4(),
                started_by="alice",
                actor=agents.TESTS,
                now=cast.now,
            )
        for state in _ROLLED_OUT[: _ROLLED_OUT.index(until) + 1]:
            enter(rotation, state, cast, **({"new_id": version.pk} if state == "created" else {}))
        return rotation, version

    return call


def enter(rotation, state, cast, **facts):
    with transaction.atomic():
        services.enter(rotation, state, now=cast.now, **facts)


@pytest.fixture
def ask(gateway, deal):
    return lambda headers=None: cleartext.get(
        gateway.url + PATH, headers=deal.headers if headers is None else headers
    )


def served(ask):
    found = ask()
    return found if found.status_code == 200 else None


def refused(ask):
    found = ask()
    return found if found.status_code == 404 else None


def plain(problem):
    """Return a refusal without what differs in each."""
    return {name: text for name, text in problem.json().items() if name != "request_id"}


@pytest.mark.parametrize("state", [State.STAGED, State.PROMOTING])
def test_a_dependent_of_the_rotation_fetches_what_is_laid_ready(
    gateway, ask, dependent, rotate, state, deal
):
    rotate(state)

    found = builders.until(lambda: served(ask))

    assert (found.json()["version"], found.json()["value"]) == (2, "s3cret-2")
    assert found.headers["cache-control"] == "no-store"
    line = gateway.logged()[-1]
    assert line.startswith("ledger-reader 2 ")
    assert deal.issued.token.public_id in line
    current = cleartext.get(f"{gateway.url}/v1/keys/ledger-reader", headers=deal.headers)
    assert current.json()["value"] == "s3cret-1"
    by_number = cleartext.get(
        f"{gateway.url}/v1/keys/ledger-reader?version=2", headers=deal.headers
    )
    assert by_number.status_code == 404


def test_before_it_was_tried_nobody_fetches_it(gateway, ask, dependent, rotate, cast):
    rotation, _ = rotate(State.VALIDATED)
    other = agents.agent(cast, "late-bot")
    text = agents.token(cast, other).text.reveal().decode()
    later = {"Authorization": f"Bearer {text}"}
    # Who came after the rotation is known there, and so is the rotation.
    builders.until(lambda: ask(later).status_code == 404)

    assert ask().status_code == 404
    enter(rotation, State.STAGED, cast)
    builders.until(lambda: served(ask))


def test_everybody_else_is_answered_as_for_a_version_that_is_not_there(
    gateway, ask, dependent, rotate, cast, deal
):
    """An agent that may use the key, but that the rotation does not move, learns nothing of it."""
    rotate()
    builders.until(lambda: served(ask))
    other = agents.agent(cast, "late-bot")
    agents.granted(cast, other, deal.key)
    text = agents.token(cast, other).text.reveal().decode()
    headers = {"Authorization": f"Bearer {text}"}
    builders.until(lambda: may_read(gateway, headers))

    pending = ask(headers)
    missing = cleartext.get(f"{gateway.url}/v1/keys/ledger-reader?version=9", headers=headers)

    assert (pending.status_code, plain(pending)) == (404, plain(missing))
    for path in ("/v1/keys/nobodys-key", "/v1/keys/nobodys-key?version=pending"):
        assert cleartext.get(gateway.url + path, headers=headers).status_code == 404
    vault_api = f"{gateway.url}/v1/secret/data/ledger-reader?version=pending"
    assert cleartext.get(vault_api, headers=deal.headers).status_code == 400


def may_read(gateway, headers):
    answer = cleartext.get(f"{gateway.url}/v1/keys/ledger-reader", headers=headers)
    return answer.status_code == 200


def _roll_back(rotation, cast, **_):
    enter(rotation, State.ROLLING_BACK, cast)


def _end_dependent(rotation, cast, dependent, **_):
    with transaction.atomic():
        dependents.end(dependent=dependent, now=cast.now, actor=agents.TESTS)


def _suspend(rotation, cast, dependent, **_):
    Agent.objects.filter(pk=dependent.agent_id).update(state=AgentState.SUSPENDED)


def _end_grant(rotation, cast, dependent, deal):
    with transaction.atomic():
        grants.end_grant(grant=deal.grant, actor=agents.TESTS, now=cast.now)


def _promote(rotation, cast, **_):
    with transaction.atomic():
        vault.promote(version_id=rotation.new_id, now=cast.now, actor=agents.TESTS)


@pytest.mark.parametrize("end", [_roll_back, _end_dependent, _end_grant, _promote])
def test_it_is_taken_back_at_once(ask, dependent, rotate, cast, deal, end):
    rotation, _ = rotate()
    builders.until(lambda: served(ask))

    end(rotation, cast, dependent=dependent, deal=deal)

    builders.until(lambda: refused(ask), seconds=5)


def test_a_suspended_dependent_fetches_nothing(ask, dependent, rotate, cast):
    rotation, _ = rotate()
    builders.until(lambda: served(ask))

    _suspend(rotation, cast, dependent)

    builders.until(lambda: ask().status_code == 401, seconds=5)


def test_a_rotation_that_is_held_while_it_rolls_out_goes_on_serving(ask, dependent, rotate, cast):
    rotation, _ = rotate()
    builders.until(lambda: served(ask))

    enter(rotation, State.HELD, cast)
    assert served(ask)
    enter(rotation, State.ROLLING_BACK, cast)
    builders.until(lambda: refused(ask), seconds=5)


def test_a_copy_of_it_is_not_the_current_one_s_copy(gateway, ask, dependent, rotate, cast, deal):
    """Once it is current it is asked for anew, so that the record shows who has it in use."""
    rotation, _ = rotate()
    tag = builders.until(lambda: served(ask)).headers["etag"]
    known = deal.headers | {"If-None-Match": tag}
    assert ask(known).status_code == 304
    _promote(rotation, cast)
    builders.until(lambda: refused(ask))

    again = cleartext.get(f"{gateway.url}/v1/keys/ledger-reader", headers=known)

    assert (again.status_code, again.json()["version"]) == (200, 2)
    assert again.headers["etag"] != tag


def test_to_have_fetched_it_before_is_no_proof_that_it_is_in_use(dependent, rotate, cast, deal):
    rotation, _ = rotate()
    _promote(rotation, cast)
    read = {
        "agent_id": deal.agent.pk,
        "key_id": deal.key.pk,
        "key": deal.key.name,
        "number": 2,
        "at": timezone.now(),
    }
    deliveries = list(rotation.deliveries.select_related("dependent"))
    since = rotation.created_at

    shipped(1, **read, door="pending")
    assert evidence.proofs(rotation, deliveries, {}) == {}
    assert reads.last_of(deal.key.pk, [deal.agent.pk], since=since) == {}
    shipped(1, **read, door="key")
    assert evidence.proofs(rotation, deliveries, {})[dependent.pk].number == 2
