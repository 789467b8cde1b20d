"""A value is shown to one person, once, and the ledger knows before the page does (R8)."""

import threading
from uuid import uuid4

import pytest
from django.db import connections

from approvals.ports import NotPresent, NotVisible
from keyvault.audit import ledger
from keyvault.audit.models import Event
from keyvault.crypto import keyring
from keyvault.crypto.keyring import NoKey
from keyvault.vault import reveals, selectors, services
from keyvault.vault.models import Sealed
from keyvault.vault.reveals import AlreadyRevealed, NotRevealable
from keyvault.vault.sealing import Unreadable
from tests import cast as people
from tests.keyvault.vault.rows import WORKER


def _proof(person, version, request_id, now):
    digest = reveals.act_digest(version_id=version.pk, person_id=person.pk, request_id=request_id)
    return people.proof_for(person, digest=digest, now=now)


def _reveal(person, version, request_id, now, proof=None):
    return reveals.reveal(
        version_id=version.pk,
        person=person,
        proof_id=proof or _proof(person, version, request_id, now),
        request_id=request_id,
        now=now,
    )


@pytest.mark.django_db
def test_r8_reveal_shows_the_value_and_records_it_without_the_value(cast, live, request_id, now):
    shown = _reveal(cast.alice, live, request_id, now)

    event = Event.objects.get(event="secret.revealed")
    assert shown.material["password"].reveal() == b"canary-value"
    assert shown.public == {"username": "billing"}
    assert event.actor_label == str(cast.alice)
    assert event.request_id == request_id
    assert event.fields["fields"] == ["password"]
    assert "canary" not in str(event.fields)


@pytest.mark.django_db
def test_r8_a_second_reveal_is_refused_with_who_and_when(cast, live, request_id, now):
    _reveal(cast.alice, live, request_id, now)

    with pytest.raises(AlreadyRevealed, match=str(cast.alice)):
        _reveal(cast.carol, live, request_id, now)

    assert Event.objects.filter(event="secret.revealed").count() == 1


@pytest.mark.django_db
def test_r26_a_factor_for_another_act_burns_nothing(cast, live, request_id, now):
    proof = people.proof_for(cast.alice, digest="0" * 64, now=now)

    with pytest.raises(NotPresent):
        _reveal(cast.alice, live, request_id, now, proof)

    assert selectors.version(live.pk).revealed_at is None


@pytest.mark.django_db
def test_r5_a_sealed_process_burns_nothing(cast, live, request_id, now):
    proof = _proof(cast.alice, live, request_id, now)
    keyring.uninstall("No key.")

    with pytest.raises(NoKey):
        _reveal(cast.alice, live, request_id, now, proof)

    assert selectors.version(live.pk).revealed_at is None


@pytest.mark.django_db
def test_r49_without_its_event_nothing_is_revealed(cast, live, request_id, now, monkeypatch):
    def refuse(*args, **kwargs):
        raise ledger.LedgerUnavailable

    proof = _proof(cast.alice, live, request_id, now)
    monkeypatch.setattr(ledger, "record", refuse)

    with pytest.raises(ledger.LedgerUnavailable):
        _reveal(cast.alice, live, request_id, now, proof)

    assert selectors.version(live.pk).revealed_at is None


@pytest.mark.django_db
def test_reveal_refuses_a_version_that_has_ended(cast, live, request_id, now):
    services.mark_revoked(version_id=live.pk, cause="asked", now=now, actor=WORKER, request_id=None)

    with pytest.raises(NotRevealable):
        _reveal(cast.alice, live, request_id, now)


@pytest.mark.django_db
def test_reveal_of_an_unknown_version_is_not_visible(cast, request_id, now):
    with pytest.raises(NotVisible):
        reveals.reveal(
            version_id=uuid4(),
            person=cast.alice,
            proof_id=uuid4(),
            request_id=request_id,
            now=now,
        )


@pytest.mark.django_db
def test_r8_a_value_that_does_not_open_is_burnt_all_the_same(cast, live, request_id, now):
    Sealed.objects.update(number=7)
    Sealed.objects.update(number=1, field="pin")

    with pytest.raises(Unreadable):
        _reveal(cast.alice, live, request_id, now)

    assert selectors.version(live.pk).revealed_at == now


@pytest.mark.django_db(transaction=True)
def test_r8_of_many_reveals_at_once_exactly_one_shows_the_value(cast, live, request_id, now):
    proofs = [_proof(cast.alice, live, request_id, now) for _ in range(12)]
    barrier, outcomes = threading.Barrier(len(proofs)), []

    def work(proof):
        barrier.wait()
        try:
            outcomes.append(_reveal(cast.alice, live, request_id, now, proof).number)
        except AlreadyRevealed:
            outcomes.append(None)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[proof]) for proof in proofs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes, key=str) == [1] + [None] * 11
    assert Event.objects.filter(event="secret.revealed").count() == 1


@pytest.mark.django_db
def test_the_worker_may_open_what_was_revealed(cast, live, request_id, now):
    _reveal(cast.alice, live, request_id, now)

    assert (
        services.open_material(version_id=live.pk, actor=WORKER, now=now, purpose="delivery")[
            "password"
        ].reveal()
        == b"canary-value"
    )
