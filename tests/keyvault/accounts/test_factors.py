"""Second factors: a code counts once, whatever races for it; recovery codes; enrolment."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.ports import NotPresent
from keyvault.accounts import factors, lockout, own_account, selectors, services, totp
from keyvault.accounts.devices import Lockout, RecoveryCode, StepUp, TOTPDevice
from keyvault.accounts.models import User
from keyvault.accounts.presence import Presence
from keyvault.crypto import keyring
from tests import cast as people

DIGEST = "a" * 64


def race(count, act):
    """Run `act(number)` in `count` threads that start together; return what each gave."""
    barrier = threading.Barrier(count)

    def run(number):
        barrier.wait()
        try:
            return act(number)
        except (factors.BadCode, factors.CodeUsed, lockout.LockedOut, NotPresent) as error:
            return type(error).__name__
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


@pytest.mark.django_db(transaction=True)
def test_r23_one_code_counts_once_under_fifty_threads(cast, monkeypatch):
    monkeypatch.setitem(lockout.LIMITS, "person", 1000)
    monkeypatch.setitem(lockout.LIMITS, "address", 1000)
    code = people.totp_code(cast.alice)

    def verify(_number):
        factors.verify(user=cast.alice, code=code, ip="192.0.2.1", now=timezone.now())
        return "accepted"

    outcomes = race(50, verify)
    assert outcomes.count("accepted") == 1
    assert set(outcomes) == {"accepted", "CodeUsed"}
    with pytest.raises(factors.CodeUsed):
        verify(0)


@pytest.mark.django_db(transaction=True)
def test_r24_a_burst_of_guesses_gets_no_more_tries_than_a_slow_one(cast):
    def guess(_number):
        factors.verify(user=cast.alice, code="000000", ip="192.0.2.1", now=timezone.now())

    outcomes = race(20, guess)
    assert outcomes.count("BadCode") == lockout.LIMITS["person"]
    assert outcomes.count("LockedOut") == 15


MISSHAPEN = [
    "",
    "{0} ",
    " {0}",
    "+{0}",
    "{0}\n",
    "{1}_{2}",
    "{1} {2}",
    "{wide}",
    "{arabic}",
    "0{0}",
    "{0}\x00",
]


@pytest.mark.django_db
@pytest.mark.parametrize("shape", MISSHAPEN)
def test_r23_only_six_ascii_digits_are_a_code(cast, shape):
    code = people.totp_code(cast.alice)
    typed = shape.format(
        code,
        code[:3],
        code[3:],
        wide="".join(chr(0xFF10 + int(digit)) for digit in code),
        arabic="".join(chr(0x0660 + int(digit)) for digit in code),
    )
    with pytest.raises(factors.BadCode):
        factors.verify(user=cast.alice, code=typed, ip="192.0.2.1", now=timezone.now())
    factors.verify(user=cast.alice, code=code, ip="192.0.2.1", now=timezone.now())


@pytest.mark.parametrize(
    ("unix_s", "code"),
    [(59, "287082"), (1111111109, "081804"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_rfc_6238(unix_s, code):
    assert totp.at_step(b"12345678901234567890", totp.step_at(unix_s)) == code


def test_a_code_of_the_step_before_or_after_still_matches():
    seed = b"12345678901234567890"
    for offset in (-1, 0, 1):
        found = totp.match(seed, totp.at_step(seed, 100 + offset), unix_s=3000, drift=0)
        assert found == totp.Match(step=100 + offset, drift=offset)
    assert totp.match(seed, totp.at_step(seed, 102), unix_s=3000, drift=0) is None


@pytest.mark.django_db
def test_a_used_code_says_when_the_next_one_shows(cast):
    code = people.totp_code(cast.alice)
    now = timezone.now()
    factors.verify(user=cast.alice, code=code, ip="192.0.2.1", now=now)
    with pytest.raises(factors.CodeUsed, match=r"Next one in [0-9]+ s"):
        factors.verify(user=cast.alice, code=code, ip="192.0.2.1", now=now)
    assert not Lockout.objects.filter(failures__gt=0).exists()


@pytest.mark.django_db
def test_an_earlier_code_is_refused_once_a_later_one_was_used(cast):
    later = people.totp_code(cast.alice)
    factors.verify(user=cast.alice, code=later, ip="192.0.2.1", now=timezone.now())
    earlier = people.code(cast.alice, steps=-1)
    with pytest.raises((factors.CodeUsed, factors.BadCode)):
        factors.verify(user=cast.alice, code=earlier, ip="192.0.2.1", now=timezone.now())


@pytest.mark.django_db
def test_the_seed_is_sealed_for_its_own_row(cast):
    rows = TOTPDevice.objects.order_by("pk")
    one, other = rows[0], rows[1]
    assert b"alice" not in bytes(one.sealed_seed)
    one.sealed_seed = other.sealed_seed
    with pytest.raises(Exception, match="open"):
        one.seed()


@pytest.mark.django_db
def test_a_sealed_start_refuses_codes_and_counts_no_failure(cast, installation, client_for):
    code = people.totp_code(cast.alice)
    keyring.uninstall("sealed for a test")
    with pytest.raises(keyring.NoKey):
        factors.verify(user=cast.alice, code=code, ip="192.0.2.1", now=timezone.now())
    assert not Lockout.objects.filter(failures__gt=0).exists()
    response = client_for(cast.alice).post(reverse("account-codes"), {"otp_code": code})
    assert response.status_code == 503


@pytest.mark.django_db(transaction=True)
def test_r27_one_recovery_code_counts_once_under_threads(cast, monkeypatch):
    monkeypatch.setitem(lockout.LIMITS, "person", 1000)
    monkeypatch.setitem(lockout.LIMITS, "address", 1000)
    code = people.recovery_codes(cast.alice, now=cast.now)[3]

    def use(_number):
        factors.verify_recovery(user=cast.alice, code=code, ip="192.0.2.1", now=timezone.now())
        return "accepted"

    outcomes = race(20, use)
    assert sorted(outcomes) == ["BadCode"] * 19 + ["accepted"]
    assert RecoveryCode.objects.filter(used_at__isnull=False).count() == 1


@pytest.mark.django_db
def test_a_recovery_code_may_be_typed_in_small_letters_without_dashes(cast):
    code = people.recovery_codes(cast.alice, now=cast.now)[0]
    typed = code.replace("-", " ").lower()
    factors.verify_recovery(user=cast.alice, code=typed, ip="192.0.2.1", now=timezone.now())


@pytest.mark.django_db
def test_recovery_codes_are_stored_as_digests_and_work_for_their_person_only(cast):
    code = people.recovery_codes(cast.alice, now=cast.now)[0]
    people.recovery_codes(cast.bob, now=cast.now)
    assert not RecoveryCode.objects.filter(digest__contains=code).exists()
    with pytest.raises(factors.BadCode):
        factors.verify_recovery(user=cast.bob, code=code, ip="192.0.2.1", now=timezone.now())


@pytest.mark.django_db
def test_new_recovery_codes_end_the_old_ones(cast):
    old = people.recovery_codes(cast.alice, now=cast.now)[0]
    people.recovery_codes(cast.alice, now=cast.now)
    with pytest.raises(factors.BadCode):
        factors.verify_recovery(user=cast.alice, code=old, ip="192.0.2.1", now=timezone.now())


@pytest.mark.django_db
def test_a_recovery_code_signs_in(cast):
    code = people.recovery_codes(cast.alice, now=cast.now)[0]
    client = Client()
    client.post(reverse("login"), {"username": "alice", "password": people.PASSWORD})
    assert client.post(reverse("recovery"), {"code": "nonsense"}).status_code == 422
    assert client.post(reverse("recovery"), {"code": code}).status_code == 302
    assert client.get(reverse("account")).status_code == 200


@pytest.mark.django_db
def test_r27_a_reset_ends_sessions_bars_deciding_and_a_password_alone_enrols_nothing(
    cast, client_for
):
    client = client_for(cast.bob)
    with transaction.atomic():
        services.reset_factor(user=cast.bob, now=cast.now, actor=people.HOST)
    assert client.get(reverse("account")).status_code == 302
    bob = User.objects.get(pk=cast.bob.pk)
    assert bob.barred_until == cast.now + timedelta(hours=24)
    client.post(reverse("login"), {"username": "bob", "password": people.PASSWORD})
    response = client.get(reverse("mfa"))
    assert response.status_code == 403
    assert "A password alone cannot add one" in response.content.decode()
    assert client.get(reverse("enrol")).headers["Location"].startswith(reverse("mfa"))
    with pytest.raises(factors.MayNotEnrol):
        factors.confirm(user=bob, code="000000", ip="192.0.2.1", now=cast.now)


# --- step-up ---------------------------------------------------------------------------------


@pytest.fixture
def proof_id(cast):
    return people.proof_for(cast.alice, digest=DIGEST, now=cast.now)


def consume(user, proof_id, *, digest=DIGEST, now):
    with transaction.atomic():
        return Presence().consume(proof_id, person_id=user.pk, digest=digest, now=now)


@pytest.mark.django_db
def test_r26_a_proof_is_used_up_once(cast, proof_id):
    assert consume(cast.alice, proof_id, now=cast.now).used_at == cast.now
    with pytest.raises(NotPresent):
        consume(cast.alice, proof_id, now=cast.now)


@pytest.mark.django_db
def test_r26_a_proof_holds_for_its_person_its_digest_and_five_minutes(cast, proof_id):
    for user, digest, later in (
        (cast.bob, DIGEST, 0),
        (cast.alice, "b" * 64, 0),
        (cast.alice, DIGEST, 300),
    ):
        with pytest.raises(NotPresent):
            consume(user, proof_id, digest=digest, now=cast.now + timedelta(seconds=later))
    with pytest.raises(NotPresent):
        consume(cast.alice, uuid4(), now=cast.now)
    consume(cast.alice, proof_id, now=cast.now + timedelta(seconds=299))


@pytest.mark.django_db
def test_r26_a_proof_of_a_person_who_left_is_worth_nothing(cast, proof_id):
    with transaction.atomic():
        services.deactivate(user=cast.alice, now=cast.now, actor=people.HOST)
    with pytest.raises(NotPresent):
        consume(cast.alice, proof_id, now=cast.now)


@pytest.mark.django_db(transaction=True)
def test_r26_of_twenty_racers_with_one_proof_one_wins(cast, proof_id):
    outcomes = race(20, lambda _: bool(consume(cast.alice, proof_id, now=cast.now)))
    assert outcomes.count(True) == 1
    assert outcomes.count("NotPresent") == 19


@pytest.mark.django_db
def test_a_rolled_back_act_gives_the_proof_back(cast, proof_id):
    with transaction.atomic():
        Presence().consume(proof_id, person_id=cast.alice.pk, digest=DIGEST, now=cast.now)
        transaction.set_rollback(True)
    consume(cast.alice, proof_id, now=cast.now)


@pytest.mark.django_db
def test_step_up_shows_the_act_and_keeps_what_was_posted(cast, client_for):
    client = client_for(cast.alice)
    body = {"next": "/people/", "odd": ['"><script>', "two"]}
    page = client.post(reverse("account-codes"), body)
    text = page.content.decode()
    assert page.status_code == 200
    assert "Ten new recovery codes replace the ones you have" in text
    assert '<input type="hidden" name="odd" value="&quot;&gt;&lt;script&gt;">' in text
    assert '<input type="hidden" name="odd" value="two">' in text
    assert own_account.digest(own_account.RECOVERY, cast.alice)[:8] in text


@pytest.mark.django_db
def test_step_up_with_a_wrong_code_changes_nothing_and_with_a_right_one_acts(
    cast, client_for, totp
):
    client = client_for(cast.alice)
    before = client.session.session_key
    wrong = client.post(reverse("account-codes"), {"otp_code": "000000", "next": "/people/"})
    assert wrong.status_code == 422
    assert 'name="next" value="/people/"' in wrong.content.decode()
    assert not StepUp.objects.exists()
    assert selectors.recovery_codes_left(cast.alice) is None
    done = client.post(reverse("account-codes"), {"otp_code": totp(cast.alice)})
    assert "shown now and never again" in done.content.decode()
    assert client.session.session_key != before
    again = client.post(reverse("account-codes"), {"otp_code": people.code(cast.alice)})
    assert again.status_code == 422
    assert "That code was already used. Next one in" in again.content.decode()


@pytest.mark.django_db
def test_r24_step_up_shares_the_lockout_of_sign_in(cast, client_for):
    client = client_for(cast.alice)
    for _ in range(5):
        client.post(reverse("account-codes"), {"otp_code": "000000"})
    locked = client.post(reverse("account-codes"), {"otp_code": people.code(cast.alice)})
    assert locked.status_code == 429
    assert int(locked.headers["Retry-After"]) > 0
    door = Client().post(reverse("login"), {"username": "alice", "password": people.PASSWORD})
    assert door.status_code == 429


@pytest.mark.django_db
def test_replacing_the_authenticator_takes_a_code_and_bars_deciding(cast, client_for, totp):
    client = client_for(cast.alice)
    assert client.get(reverse("account-factor")).headers["Location"] == reverse("account")
    client.post(reverse("account-factor-begin"), {"otp_code": totp(cast.alice)})
    page = client.get(reverse("account-factor"))
    assert page.status_code == 200
    pending = TOTPDevice.objects.get(user=cast.alice, confirmed=False)
    code = totp_of(pending)
    assert (
        "shown now and never again"
        in client.post(reverse("account-factor"), {"code": code}).content.decode()
    )
    assert selectors.authenticator(cast.alice).pk == pending.pk
    assert User.objects.get(pk=cast.alice.pk).barred_until > timezone.now()
    assert client.get(reverse("account")).status_code == 200


def totp_of(device):
    step = totp.step_at(timezone.now().timestamp())
    return totp.at_step(device.seed().reveal(), step)


@pytest.mark.django_db
def test_changing_the_password_takes_the_old_one_and_a_code_and_ends_sessions(
    cast, client_for, totp
):
    client, other = client_for(cast.alice), client_for(cast.alice)
    body = {"current": people.PASSWORD, "password": "another horse, another staple"}
    refused = client.post(reverse("account-password"), body | {"current": "x", "otp_code": "1"})
    assert refused.status_code == 422
    assert client.post(reverse("account-password"), body).status_code == 422
    weak = body | {"password": "short", "otp_code": totp(cast.alice)}
    assert client.post(reverse("account-password"), weak).status_code == 422
    done = client.post(reverse("account-password"), body | {"otp_code": totp(cast.alice)})
    assert done.headers["Location"] == reverse("login")
    assert client.get(reverse("account")).status_code == 302
    assert other.get(reverse("account")).status_code == 302


@pytest.mark.django_db
def test_signing_out_everywhere_ends_every_session(cast, client_for):
    client, other = client_for(cast.alice), client_for(cast.alice)
    client.post(reverse("account-sign-out"))
    assert other.get(reverse("account")).status_code == 302
