"""A credential that a person makes: the job waits, the person hands over, the job goes on."""

import pytest
from django.db import transaction
from django.utils import timezone

from approvals import queue
from approvals.models import Job
from approvals.ports import NeedsPerson, NotVisible
from approvals.queue import running
from approvals.services.states import EXECUTE
from keyvault.audit.models import Event
from keyvault.connections import intake, issuing, selectors
from keyvault.inventory import grants
from keyvault.vault import selectors as versions
from keyvault.vault import services as vault
from tests.keyvault.connections import fakes
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db
CANARY = "pasted-canary-5d2e"


@pytest.fixture
def fake(_registry):
    return fakes.install(fakes.Paste())


@pytest.fixture
def waiting(fake, key, request_id, claims):
    with pytest.raises(NeedsPerson):
        issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)
    return key


def _go_on(key, request_id, claims):
    return issuing.issue(key=key, request_id=request_id, run=claims.claim(), actor=WORKER)


def test_the_job_waits_and_says_for_what(waiting, cast):
    task = intake.task(key=waiting, person=cast.alice)

    assert selectors.awaits_intake(waiting.pk)
    assert (task.act, list(task.steps)) == ("create", ["create it by hand."])
    assert versions.current(waiting.pk) is None


def test_a_pasted_value_is_sealed_and_put_into_use(waiting, cast, request_id, claims, now):
    intake.intake(key=waiting, person=cast.alice, typed={"value": CANARY}, now=now)

    version = _go_on(waiting, request_id, claims)

    opened = vault.open_material(version_id=version.pk, actor=WORKER, now=now, purpose="test")
    assert opened["value"].reveal().decode() == CANARY
    assert version.state == "current"
    event = Event.objects.get(event="intake.received")
    assert event.actor_label == str(cast.alice)
    assert CANARY not in str(event.fields)


def test_the_held_job_is_taken_up_by_the_intake(waiting, cast, request_id, now):
    with transaction.atomic():
        job_id = queue.enqueue(kind="request.execute", subject_id=request_id)
    Job.objects.filter(pk=job_id).update(state="held", ended_at=now)

    intake.intake(key=waiting, person=cast.alice, typed={"value": CANARY}, now=now)

    assert Job.objects.get(pk=job_id).state == "ready"


@pytest.fixture
def job(key, request_id, monkeypatch, now):
    """Return a function that lets a worker try the request's job once."""

    def issue(subject_id, run):
        issuing.issue(key=key, request_id=subject_id, run=run, actor=WORKER)

    monkeypatch.setitem(running._handlers, EXECUTE, issue)
    with transaction.atomic():
        job_id = queue.enqueue(kind=EXECUTE, subject_id=request_id)

    def try_once():
        queue.run(job_id, worker="test", now=now)
        return Job.objects.get(pk=job_id)

    return try_once


def test_a_value_pasted_while_the_job_is_being_held_waits_for_nobody(
    fake, key, job, cast, monkeypatch, now
):
    refuse = fake.create

    def paste_meanwhile(ctx, attempt):
        intake.intake(key=key, person=cast.alice, typed={"value": CANARY}, now=now)
        refuse(ctx, attempt)

    monkeypatch.setattr(fake, "create", paste_meanwhile)

    assert job().state == "ready", "the worker that had looked before holds nothing"
    assert job().state == "done"
    assert versions.current(key.pk).number == 1
    resumed = Event.objects.get(event="job.resumed")
    assert resumed.actor_label == str(cast.alice)
    assert not Event.objects.filter(event="job.held").exists()


def test_a_value_pasted_twice_takes_the_job_up_once(fake, key, job, cast, now):
    assert job().state == "held"
    intake.intake(key=key, person=cast.alice, typed={"value": CANARY}, now=now)
    job()

    with pytest.raises((intake.NotTaken, NotVisible)):
        intake.intake(key=key, person=cast.alice, typed={"value": CANARY}, now=now)

    assert Event.objects.filter(event="job.resumed").count() == 1


@pytest.mark.parametrize("name", ["mallory", "bob", "frank"])
def test_nobody_else_may_hand_it_over(waiting, cast, name, now):
    person = getattr(cast, name)

    with pytest.raises(NotVisible):
        intake.intake(key=waiting, person=person, typed={"value": CANARY}, now=now)
    with pytest.raises(NotVisible):
        intake.task(key=waiting, person=person)


def test_the_backup_owner_and_the_team_of_the_connection_may(waiting, cast, now):
    waiting.connection.team = cast.security.group
    waiting.connection.save()

    assert intake.task(key=waiting, person=cast.carol)
    assert intake.task(key=waiting, person=cast.bob)


def test_an_empty_value_is_refused_and_the_job_waits_on(waiting, cast, now):
    with pytest.raises((intake.NotTaken, KeyError)):
        intake.intake(key=waiting, person=cast.alice, typed={"value": ""}, now=now)

    assert selectors.awaits_intake(waiting.pk)


def test_a_revocation_by_hand_waits_for_a_persons_word(waiting, cast, request_id, claims, now):
    intake.intake(key=waiting, person=cast.alice, typed={"value": CANARY}, now=now)
    _go_on(waiting, request_id, claims)
    with pytest.raises(NeedsPerson, match="Confirm"):
        issuing.revoke(key=waiting, request_id=request_id, run=claims.claim(), actor=WORKER)
    assert versions.current(waiting.pk) is not None
    assert selectors.awaits_confirmation(waiting.pk)

    intake.confirm_revoked(key=waiting, person=cast.alice, now=now)
    issuing.revoke(key=waiting, request_id=request_id, run=claims.claim(), actor=WORKER)

    assert versions.live(waiting.pk) == []


def test_the_page_takes_the_value_and_never_shows_it(waiting, cast, client_for, now):
    with transaction.atomic():
        grants.grant(
            key=waiting,
            holder=cast.alice,
            permission="view",
            reason="owner",
            actor=WORKER,
            now=timezone.now(),
        )
    client = client_for(cast.alice)

    shown = client.get("/keys/billing-agent/intake/")
    wrong = client.post("/keys/billing-agent/intake/", {"value_value": ""})
    right = client.post("/keys/billing-agent/intake/", {"value_value": CANARY})
    again = client.post("/keys/billing-agent/intake/", {"value_value": CANARY})

    assert "create it by hand" in shown.content.decode()
    assert wrong.status_code == 422
    assert right.status_code == 302
    assert CANARY not in again.content.decode()
    assert client_for(cast.mallory).get("/keys/billing-agent/intake/").status_code == 404
