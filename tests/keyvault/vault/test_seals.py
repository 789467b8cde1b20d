"""The wrong key, no key and a spent key: the process is sealed, and says so (R5, R6)."""

import secrets
import threading
from uuid import uuid4

import pytest
from django.db import connection, connections, transaction

from keyvault.audit.models import Event
from keyvault.crypto import digest, keyring
from keyvault.crypto.keyring import Exhausted, Keyring, LocalKek, NoKey
from keyvault.crypto.secret import Secret
from keyvault.vault import budget, sealing, seals
from keyvault.vault.budget import DatabaseBudget
from keyvault.vault.models import Kek, KekState, Sealed
from keyvault.vault.sealing import Place

PLACE = Place("key", uuid4(), 1)
VALUE = {"password": Secret.of("canary-value")}


def _ring(*raws):
    return Keyring([LocalKek(raw) for raw in raws], budget=DatabaseBudget())


@pytest.fixture
def raw():
    return secrets.token_bytes(32)


@pytest.fixture
def registered(raw, db):
    ring = _ring(raw)
    keyring.install(ring, guard=seals.guard)
    keyring.active()
    return ring


def _put(now):
    with transaction.atomic():
        sealing.put(PLACE, VALUE, now=now)


@pytest.mark.django_db
def test_the_first_key_over_an_empty_database_is_registered(registered):
    kek = Kek.objects.get()

    assert kek.id == registered.active_id.hex()
    assert kek.check_value == registered.active_check.hex()
    assert Event.objects.get(event="kek.registered").subject_id == kek.id
    assert not seals.seal_state().is_sealed


@pytest.mark.django_db
def test_r5_another_key_starts_sealed_and_registers_nothing(registered, now):
    _put(now)
    keyring.install(_ring(secrets.token_bytes(32)), guard=seals.guard)

    state = seals.seal_state()

    assert state.is_sealed
    assert "not the one that sealed this database" in state.sentence
    assert Kek.objects.count() == 1
    with pytest.raises(NoKey):
        _put(now)
    with pytest.raises(NoKey):
        sealing.take(PLACE, actor=None, subject=None, now=now, purpose="test")


@pytest.mark.django_db
def test_r5_no_key_starts_sealed_with_its_reason(registered):
    keyring.uninstall("The key file is gone.")

    assert seals.seal_state() == seals.SealState(is_sealed=True, sentence="The key file is gone.")


@pytest.mark.django_db
def test_r5_a_missing_index_key_is_a_sealed_start_too(registered, keys):
    digest._Installed.index_key, digest._Installed.derived = None, {}

    assert seals.seal_state().is_sealed


@pytest.mark.django_db
def test_r5_no_key_is_registered_over_sealed_values(registered, now):
    _put(now)
    Kek.objects.all().delete()
    keyring.install(registered, guard=seals.guard)

    with pytest.raises(NoKey, match="knows no key-encryption key"):
        keyring.active()

    assert not Kek.objects.exists()


@pytest.mark.django_db
def test_r5_a_tampered_check_value_is_noticed(registered):
    Kek.objects.update(check_value="0" * 64)
    keyring.install(registered, guard=seals.guard)

    with pytest.raises(NoKey, match="check value"):
        keyring.active()


@pytest.mark.django_db
def test_r4_an_older_key_removed_early_is_refused_with_the_count(registered, raw, now):
    _put(now)
    old = Kek.objects.get()
    Kek.objects.update(state=KekState.READABLE)
    new = secrets.token_bytes(32)
    both = _ring(raw, new)
    Kek.objects.create(
        id=both.active_id.hex(),
        check_value=both.active_check.hex(),
        state=KekState.ACTIVE,
        first_block=budget.next_block(),
        created_at=now,
    )

    keyring.install(both, guard=seals.guard)
    assert keyring.active().ids() == {bytes.fromhex(old.id), both.active_id}
    keyring.install(_ring(new), guard=seals.guard)
    with pytest.raises(NoKey, match="1 sealed values still need"):
        keyring.active()


@pytest.mark.django_db
def test_a_registration_that_may_roll_back_is_asked_again(raw):
    ring = _ring(raw)

    assert seals.guard(ring) is False
    assert seals.guard(ring) is True


@pytest.mark.django_db(transaction=True)
def test_r5_of_two_first_keys_at_once_one_wins_and_the_other_is_sealed():
    rings = [_ring(secrets.token_bytes(32)) for _ in range(2)]
    barrier, outcomes = threading.Barrier(2), []

    def work(ring):
        barrier.wait()
        try:
            seals.guard(ring)
            outcomes.append("open")
        except NoKey:
            outcomes.append("sealed")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=[ring]) for ring in rings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["open", "sealed"]
    assert Kek.objects.count() == 1


@pytest.mark.django_db
def test_r6_a_key_near_its_limit_seals_no_more_and_opens_on(registered, now):
    _put(now)
    Kek.objects.update(first_block=budget.next_block() - budget.LIMIT // budget.BLOCK)
    spent = _ring_of(registered)
    keyring.install(spent)

    with pytest.raises(Exhausted, match="keyvault rewrap"), transaction.atomic():
        sealing.put(Place("key", uuid4(), 1), VALUE, now=now)

    found = sealing.take(PLACE, actor=None, subject=None, now=now, purpose="test")
    assert found["password"].reveal() == b"canary-value"


def _ring_of(ring):
    return Keyring(list(ring._keks.values()), budget=DatabaseBudget())


@pytest.mark.django_db
def test_r6_wraps_are_counted_in_blocks(registered):
    counter = DatabaseBudget()
    before = budget.next_block()

    for _ in range(budget.BLOCK + 1):
        counter.spend(registered.active_id)

    assert budget.next_block() - before == 3


@pytest.mark.django_db(transaction=True)
def test_r6_a_wrap_that_rolls_back_still_counts():
    before = budget.next_block()

    with transaction.atomic():
        budget.next_block()
        transaction.set_rollback(True)

    assert budget.next_block() - before == 2


@pytest.mark.django_db
def test_r6_a_key_that_is_not_registered_seals_nothing(raw):
    with pytest.raises(NoKey, match="not registered"):
        DatabaseBudget().spend(LocalKek(raw).id)


@pytest.mark.django_db
def test_put_replaces_and_remove_leaves_nothing(registered, now):
    _put(now)
    _put(now)
    assert Sealed.objects.get().kek_id == registered.active_id.hex()

    with transaction.atomic():
        assert sealing.remove(PLACE) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM keyvault_sealed")
        assert cursor.fetchone()[0] == 0


@pytest.mark.django_db
def test_move_seals_again_for_the_new_place(registered, now):
    _put(now)
    target = Place("connection", uuid4(), 2)

    with transaction.atomic():
        assert sealing.move(PLACE, target, now=now) is True
        assert sealing.move(PLACE, target, now=now) is False

    found = sealing.take(target, actor=None, subject=None, now=now, purpose="test")
    assert found["password"].reveal() == b"canary-value"
    assert sealing.fields(PLACE) == []


def test_sealed_values_change_only_inside_a_transaction(now, transactional_db):
    for act in (
        lambda: sealing.put(PLACE, VALUE, now=now),
        lambda: sealing.remove(PLACE),
        lambda: sealing.move(PLACE, PLACE, now=now),
    ):
        with pytest.raises(RuntimeError, match="only inside the transaction"):
            act()
