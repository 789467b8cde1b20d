"""Whatever dies or gets lost, there is one live credential, or a visible orphan (R55, R56, R57).

Each run crashes at one point, in one recovery class, with one fault of the
provider; fresh tries then go on until they are done, as the queue would have
it, and the invariants are checked after every try.
"""

from datetime import timedelta
from itertools import product
from uuid import uuid4

import pytest

from approvals.ports import LostClaim, NeedsPerson, Unfinished
from keyvault.connections import issuing, reconcile
from keyvault.connections.models import Attempt, AttemptState, Connection
from keyvault.crypto import keyring
from keyvault.findings.models import Finding
from keyvault.providers import base, registry
from keyvault.providers.base import Recovery
from keyvault.vault import selectors as versions
from keyvault.vault.models import Sealed, Version
from tests.keyvault.connections.fakes import After, Claims, Crash
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db

CREATE = ["attempted", "called", "stored", "validated", "promoted", "recovered"]
REVOKE = ["attempted", "called", "verified", "recorded"]
RECOVERIES = [Recovery.CLIENT, Recovery.NAMED, Recovery.TAGGED, Recovery.DIFF, Recovery.READBACK]
FAULTS = {
    "none": [],
    "lost before": [base.Ambiguous("lost")],
    "lost after": [After(base.Ambiguous("lost"))],
    "lost after twice": [After(base.Ambiguous("lost")), After(base.Ambiguous("lost"))],
    "refused": [base.Transient("try later")],
    "broken": [RuntimeError("a bug with a canary")],
    "broken after": [After(RuntimeError("a bug with a canary"))],
    "crash before": [Crash("in the call")],
    "crash after": [After(Crash("in the call"))],
}


def _issue(key, request_id, run):
    return issuing.issue(key=key, request_id=request_id, run=run, actor=WORKER)


def _revoke(key, request_id, run):
    return issuing.revoke(key=key, request_id=request_id, run=run, actor=WORKER)


def _until_done(act, key, request_id, claims, crash_at=""):
    """Try as the queue does, once with a crash; return how many tries it took."""
    said = ""
    for tries in range(1, 8):
        run = claims.claim(crash_at=crash_at)
        try:
            act(key, request_id, run)
        except Crash:
            crash_at = ""
        except NeedsPerson:
            raise
        except Unfinished as stop:
            said = str(stop)
        else:
            return tries
        assert "canary" not in said
        _invariants(key)
    raise AssertionError("six tries were not enough")


def _invariants(key):
    """I1 and I4: never two current; nothing alive that no record speaks of."""
    assert Version.objects.filter(key=key, state="current").count() <= 1
    assert Attempt.objects.filter(key=key, state=AttemptState.OPEN, act="create").count() <= 1


def _tags_known(fake):
    assert {key.tag for key in fake.alive()} <= set(Attempt.objects.values_list("tag", flat=True))


@pytest.mark.parametrize("recovery", RECOVERIES)
def test_r55_r56_create_ends_with_exactly_one_live_credential(world, now, recovery):
    for point, fault in product(["", *CREATE], FAULTS):
        fake, key = world(recovery)
        fake.fail("create", *FAULTS[fault])

        _until_done(_issue, key, uuid4(), Claims(now), f"create:{point}" if point else "")

        current = versions.current(key.pk)
        where = f"crash at {point or 'no point'}, fault {fault}"
        assert [found.remote_id for found in fake.alive()] == [current.remote_id], where
        assert current.number == 1, where
        assert not Attempt.objects.filter(state=AttemptState.OPEN).exists(), where
        _tags_known(fake)


def test_r55_revoke_ends_with_none_alive(world, now):
    for point, fault in product(["", *REVOKE], FAULTS):
        fake, key = world(Recovery.CLIENT)
        claims, request_id = Claims(now), uuid4()
        _until_done(_issue, key, request_id, claims)
        fake.fail("revoke", *FAULTS[fault])

        _until_done(_revoke, key, request_id, claims, f"revoke:{point}" if point else "")

        where = f"crash at {point or 'no point'}, fault {fault}"
        assert fake.alive() == [], where
        assert versions.live(key.pk) == [], where
        assert not Attempt.objects.filter(state=AttemptState.OPEN).exists(), where


@pytest.mark.parametrize("method", ["prepare", "find", "validate", "revoke"])
@pytest.mark.parametrize("recovery", [Recovery.TAGGED])
def test_r55_a_second_fault_while_recovering_is_survived(
    fake, key, request_id, claims, recovery, method
):
    fake.fail("create", After(base.Ambiguous("lost")))
    fake.fail(method, base.Transient("busy"))

    _until_done(_issue, key, request_id, claims)

    assert len(fake.alive()) == 1


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("paused_at", ["create:attempted", "create:called"])
def test_r57_a_worker_that_wakes_up_late_leaves_one_live_credential(
    fake, key, request_id, claims, recovery, paused_at, now
):
    """The first worker pauses; the second does all of the work; the first goes on."""
    late = claims.claim()
    claims.hooks[paused_at] = lambda: _until_done(_issue, key, request_id, claims)

    with pytest.raises(LostClaim):
        _issue(key, request_id, late)

    _look(key, claims, now)
    current = versions.current(key.pk)
    assert [found.remote_id for found in fake.alive()] == [current.remote_id]
    assert Version.objects.count() == 1


@pytest.mark.parametrize("recovery", [Recovery.TAGGED])
def test_r56_a_create_that_arrives_late_is_an_orphan_until_the_inventory_ends_it(
    fake, key, request_id, claims, recovery, now
):
    """The answer is lost, nothing is found, and the credential appears after the look."""
    fake.fail("create", base.Ambiguous("lost"))
    _until_done(_issue, key, request_id, claims)
    lost = Attempt.objects.get(state=AttemptState.ORPHANED)
    assert Connection.objects.get().inventory_due_at <= now + timedelta(seconds=30)

    fake.create(None, base.Attempt("op", 1, lost.tag))
    _look(key, claims, now)

    current = versions.current(key.pk)
    assert [found.remote_id for found in fake.alive()] == [current.remote_id]
    finding = Finding.objects.get(kind="orphan")
    assert finding.closing == "It was revoked at the provider."


@pytest.mark.parametrize("recovery", [Recovery.NONE])
def test_r56_where_nobody_can_tell_a_person_is_told(fake, key, request_id, claims, recovery):
    fake.fail("create", After(base.Ambiguous("lost")))

    with pytest.raises(NeedsPerson):
        _until_done(_issue, key, request_id, claims)

    finding = Finding.objects.get(kind="unanswered")
    assert Attempt.objects.get().tag in finding.sentence
    assert len(fake.alive()) == 1


def test_issue_twice_is_issue_once(fake, key, request_id, claims):
    first = _issue(key, request_id, claims.claim())
    second = _issue(key, request_id, claims.claim())

    assert first == second
    assert fake.calls.count("create") == 1


def test_revoke_twice_is_revoke_once(fake, key, request_id, claims):
    _issue(key, request_id, claims.claim())
    for _ in range(2):
        _revoke(key, request_id, claims.claim())

    assert fake.calls.count("revoke") == 1


@pytest.mark.parametrize("error", [base.Denied, base.Misconfigured, base.NotFound])
def test_a_refusal_that_a_person_must_mend_holds_the_job_and_leaves_nothing(
    fake, key, request_id, claims, error
):
    fake.fail("create", error("Mend this."))

    with pytest.raises(NeedsPerson, match="Mend this"):
        _issue(key, request_id, claims.claim())

    assert fake.alive() == []
    assert Attempt.objects.get().state == AttemptState.FAILED
    _until_done(_issue, key, request_id, claims)
    assert len(fake.alive()) == 1


def test_an_unknown_verdict_neither_promotes_nor_revokes(fake, key, request_id, claims):
    fake.verdict = base.Verdict.UNKNOWN

    for _ in range(3):
        with pytest.raises(Unfinished, match="could not be tried"):
            _issue(key, request_id, claims.claim())

    assert versions.current(key.pk) is None
    assert len(fake.alive()) == 1
    assert fake.calls.count("create") == 1
    fake.verdict = None
    assert _issue(key, request_id, claims.claim()).state == "current"


def test_a_credential_that_still_works_is_not_noted_as_revoked(fake, key, request_id, claims):
    _issue(key, request_id, claims.claim())
    fake.verdict = base.Verdict.VALID

    with pytest.raises(Unfinished, match="still works"):
        _revoke(key, request_id, claims.claim())

    assert versions.current(key.pk) is not None


def test_promotion_runs_what_the_caller_adds_in_its_own_transaction(fake, key, request_id, claims):
    def refuse(version):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        issuing.issue(
            key=key,
            request_id=request_id,
            run=claims.claim(),
            actor=WORKER,
            on_promoted=refuse,
        )

    assert versions.current(key.pk) is None
    assert _issue(key, request_id, claims.claim()).state == "current"


def test_r5_a_sealed_process_tries_later_and_says_why(fake, key, request_id, claims):
    ring = keyring.active()
    keyring.uninstall("The key file is gone.")

    with pytest.raises(Unfinished, match="The key file is gone") as caught:
        _issue(key, request_id, claims.claim())

    assert caught.value.code == "sealed"
    assert fake.calls == []
    keyring.install(ring)
    assert _issue(key, request_id, claims.claim()).state == "current"


def test_a_plug_in_that_is_gone_waits_for_a_person(fake, key, request_id, claims):
    del registry._registry._loaded["fake"]

    with pytest.raises(NeedsPerson, match="Allow it in the settings"):
        _issue(key, request_id, claims.claim())


def test_r2_a_swapped_admin_credential_reaches_nobody(fake, key, request_id, claims):
    Sealed.objects.filter(subject_kind="connection").update(blob=b"x" * 200)

    with pytest.raises(NeedsPerson, match="cannot be read"):
        _issue(key, request_id, claims.claim())

    assert fake.calls == []
    assert Finding.objects.get().kind == "mismatch"


def _look(key, claims, now):
    reconcile.look(key.connection_id, claims.claim())
