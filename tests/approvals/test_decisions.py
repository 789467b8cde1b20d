"""Deciding: who may, on what exactly, once, and what it leads to."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from approvals import canonical, digests, ports, queue, selectors, services
from approvals.models import Decision, Job, PolicyVersion, Request
from approvals.policy.matching import NoPolicy
from approvals.policy.rules import Rules
from approvals.services import asking
from approvals.services.states import POLICY
from keyvault.accounts.directory import Directory
from keyvault.accounts.presence import Presence
from keyvault.audit import ledger
from keyvault.audit.models import Event
from tests import cast as people
from tests.approvals.conftest import DEV, PROD

pytestmark = pytest.mark.django_db


def events(request):
    return list(Event.objects.filter(request_id=request.pk).values_list("event", flat=True))


def test_two_people_of_different_teams_approve_and_a_job_is_promised(house):
    request = house.ask()
    assert request.state == "pending"
    assert house.say(house.cast.bob, request).stage == 0
    request.refresh_from_db()
    assert request.state == "pending"
    assert house.say(house.cast.carol, request).stage == 1
    request.refresh_from_db()
    assert request.state == "approved"
    assert house.job(request).state == "ready"


def test_every_transition_writes_one_event(house):
    request = house.approved()
    house.work(request)
    assert sorted(events(request)) == sorted(
        [
            "request.submitted",
            "request.decided",
            "request.decided",
            "request.executing",
            "request.done",
        ]
    )


def test_r14_a_decision_on_a_plan_that_moved_is_refused_and_nothing_is_recorded(house):
    request = house.ask()
    old = request.plan_digest
    house.say(house.cast.bob, request)
    edited = house.edit(request, colour="blue")
    with pytest.raises(services.Stale) as stale:
        house.say(house.cast.carol, request, plan_digest=old)
    assert stale.value.request.plan_digest == edited.plan_digest
    assert request.decisions.count() == 1
    house.say(house.cast.carol, edited)
    edited.refresh_from_db()
    assert edited.state == "pending", "bob's approval was for the old revision"


def test_r14_a_revision_with_the_same_plan_still_gets_another_digest(house):
    request = house.ask()
    before = request.plan_digest
    assert house.edit(request).plan_digest != before


def test_r14_a_payload_changed_in_the_database_is_refused_as_digest_mismatch(house):
    request = house.approved()
    Request.objects.filter(pk=request.pk).update(payload={**request.payload, "colour": "red"})
    house.work(request)
    assert (request.state, request.end_code) == ("invalidated", "digest_mismatch")


def test_r14_a_payload_changed_while_it_runs_is_not_taken_up_again(house):
    request = house.approved()
    changed = {**request.payload, "colour": "red"}
    Request.objects.filter(pk=request.pk).update(
        payload=changed, state="executing", started_at=house.now
    )
    house.work(request)
    assert (request.state, request.end_code) == ("failed", "digest_mismatch")
    assert not house.world.ran


def test_r14_a_request_put_under_a_policy_that_asks_nobody_is_refused(house):
    request = house.ask()
    lax = PolicyVersion.objects.get(policy__name="test-sandbox")
    request.policy_version, request.state, request.decided_at = lax, "approved", house.now
    request.plan_digest = digests.plan_digest(asking.material(request))
    request.save()
    with transaction.atomic():
        queue.enqueue(kind="request.execute", subject_id=request.pk)
    house.work(request)
    assert (request.state, request.end_code) == ("invalidated", "policy_changed")
    assert not house.world.ran
    assert house.world.ran == []


def test_r14_payload_plan_and_digest_changed_together_lose_their_approvals(house):
    request = house.approved()
    request.payload = {**request.payload, "colour": "red"}
    request.plan_digest = digests.plan_digest(asking.material(request))
    request.save()
    house.work(request)
    assert (request.state, request.end_code) == ("invalidated", "approver_lost")
    assert house.world.ran == []


def test_r14_a_decision_that_was_not_signed_here_counts_for_nothing(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    real = Decision.objects.get(request=request)
    real.pk, real.person, real.person_label = uuid4(), house.cast.carol, "Carol"
    real.save(force_insert=True)
    Request.objects.filter(pk=request.pk).update(state="approved", decided_at=house.now)
    with transaction.atomic():
        queue.enqueue(kind="request.execute", subject_id=request.pk)
    house.work(request)
    assert (request.state, request.end_code) == ("invalidated", "forged_decision")


@pytest.mark.parametrize("verdict", ["approve", "reject", "changes"])
def test_r15_decide_refuses_the_requester(house, verdict):
    request = house.ask(house.cast.carol)
    with pytest.raises(services.NotEligible, match="You asked for this"):
        house.say(house.cast.carol, request, verdict)
    assert not request.decisions.exists()


def test_r15_decide_refuses_an_account_linked_to_the_requester(house):
    house.cast.carol.__class__.objects.filter(pk=house.cast.carol.pk).update(
        email_key=house.cast.alice.email_key
    )
    request = house.ask()
    with pytest.raises(services.NotEligible, match="Another account of yours"):
        house.say(house.cast.carol, request)


def test_r15_decide_refuses_who_joined_the_group_after_the_request(house):
    request = house.ask()
    people.join(house.cast.grace, "security", now=house.later(seconds=1))
    with pytest.raises(services.NotEligible, match="after this request was made"):
        house.say(house.cast.grace, request, now=house.later(seconds=2))


def test_r15_the_database_itself_refuses_a_decision_of_the_requester(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    row = Decision.objects.get(request=request)
    row.pk, row.person = uuid4(), house.cast.alice
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


def test_r15_the_database_refuses_a_decision_that_lies_about_the_requester(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    row = Decision.objects.get(request=request)
    row.pk, row.person, row.requester = uuid4(), house.cast.alice, house.cast.bob
    with pytest.raises(IntegrityError), transaction.atomic():
        row.save(force_insert=True)


def test_decisions_are_append_only(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        Decision.objects.filter(request=request).update(verdict="reject")
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        Decision.objects.filter(request=request).delete()


def test_the_database_lets_nothing_run_that_is_not_approved(house):
    request = house.ask()
    with pytest.raises(IntegrityError), transaction.atomic():
        Request.objects.filter(pk=request.pk).update(state="executing", decided_at=house.now)


def test_r16_an_approver_who_left_before_the_quorum_is_not_counted(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    people.leave(house.cast.bob, "security", now=house.now)
    house.say(house.cast.carol, request)
    request.refresh_from_db()
    assert request.state == "pending"


def test_r16_an_approver_deactivated_before_execution_stops_it(house):
    request = house.approved()
    type(house.cast.bob).objects.filter(pk=house.cast.bob.pk).update(is_active=False)
    house.work(request)
    assert (request.state, request.end_code) == ("invalidated", "approver_lost")
    assert "Bob" in request.end_sentence
    assert house.world.ran == []
    assert house.world.closed == [(request.pk, "invalidated")]


def test_r18_a_replayed_decision_changes_nothing_and_uses_no_second_factor(house):
    request = house.ask()
    first = house.say(house.cast.bob, request)
    again = house.say(house.cast.bob, request, proof_id=uuid4())
    assert again.pk == first.pk
    assert request.decisions.count() == 1


@pytest.mark.parametrize("end", ["rejected", "expired", "withdrawn", "done"])
def test_r18_a_decision_after_the_end_is_refused(house, end):
    request = house.ask()
    house.say(house.cast.bob, request, "reject" if end == "rejected" else "approve")
    if end == "expired":
        services.expire(now=house.later(days=2))
    elif end == "withdrawn":
        services.withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)
    elif end == "done":
        house.say(house.cast.carol, request)
        house.work(request)
    request.refresh_from_db()
    assert request.state == end
    house.world.watchers = frozenset({house.cast.grace.pk, house.cast.carol.pk})
    with pytest.raises(services.Closed) as closed:
        house.say(house.cast.grace, request, "reject")
    assert closed.value.state == end


def test_a_decision_is_final_for_its_revision(house):
    request = house.ask()
    house.say(house.cast.bob, request)
    with pytest.raises(services.NotEligible, match="decided about this revision"):
        house.say(house.cast.bob, request, "reject")


def test_r19_a_stranger_gets_the_same_refusal_as_for_a_request_that_does_not_exist(house):
    request = house.ask()
    for request_id in (request.pk, uuid4()):
        with pytest.raises(ports.NotVisible):
            selectors.access_request(house.cast.mallory, request_id)
    with pytest.raises(ports.NotVisible):
        house.say(house.cast.mallory, request)
    with pytest.raises(ports.NotVisible):
        services.comment(
            request_id=request.pk, person=house.cast.mallory, text="Hm.", now=house.now
        )


def test_r19_reviewers_who_did_not_decide_lose_sight_when_it_closes(house):
    request = house.ask()
    assert selectors.access_request(house.cast.carol, request.pk) == request
    house.say(house.cast.bob, request, "reject")
    assert selectors.access_request(house.cast.bob, request.pk) == request
    with pytest.raises(ports.NotVisible):
        selectors.access_request(house.cast.carol, request.pk)
    house.world.watchers = frozenset({house.cast.dave.pk})
    assert selectors.access_request(house.cast.dave, request.pk) == request


def test_r26_one_proof_serves_one_decision(house):
    request, other = house.ask(wall="north"), house.ask(wall="south")
    proof = house.proof(house.cast.bob, request)
    house.say(house.cast.bob, request, proof_id=proof)
    with pytest.raises(ports.NotPresent):
        house.say(house.cast.bob, other, proof_id=proof)


def test_r26_a_proof_for_approving_does_not_reject(house):
    request = house.ask()
    proof = house.proof(house.cast.bob, request, "approve")
    with pytest.raises(ports.NotPresent):
        house.say(house.cast.bob, request, "reject", proof_id=proof)


def test_r26_a_policy_may_want_a_younger_factor(house):
    with transaction.atomic():
        body = {"name": "strict", "scope": {"kind": ["test.paint"], "team": ["security"]}}
        stage = {"name": "Any", "groups": ["payments"]}
        services.seed_policies([{**body, "stages": [stage], "factor_age_s": 20}], house.now)
        # More names in the scope of the other policies win, so this one needs as many.
    request = house.ask(house.cast.bob, team="security", environment="lab")
    old = house.proof(house.cast.carol, request, proved_at=house.now - timedelta(seconds=30))
    with pytest.raises(ports.NotPresent, match="older than this policy allows"):
        house.say(house.cast.carol, request, proof_id=old)


def test_a_rejection_needs_words(house):
    request = house.ask()
    with pytest.raises(services.BadText):
        house.say(house.cast.bob, request, "reject", comment="  ")


def test_deny_beats_approve(house):
    request = house.ask()
    house.say(house.cast.carol, request)
    house.say(house.cast.bob, request, "reject")
    request.refresh_from_db()
    assert request.state == "rejected"
    assert house.world.closed == [(request.pk, "rejected")]


def test_changes_asked_goes_back_to_the_asker_and_a_revision_opens_it_again(house):
    request = house.ask()
    house.say(house.cast.bob, request, "changes")
    request.refresh_from_db()
    assert request.state == "changes_asked"
    assert selectors.mine_count(house.cast.alice) == 1
    edited = house.edit(request, colour="blue")
    assert (edited.state, edited.revision) == ("pending", 2)
    assert [row.number for row in edited.revisions.all()] == [1, 2]


def test_only_the_asker_edits_and_withdraws(house):
    request = house.ask()
    with pytest.raises(ports.NotVisible):
        house.edit(request, user=house.cast.bob)
    with pytest.raises(services.NotEligible):
        services.withdraw(request_id=request.pk, person=house.cast.bob, now=house.now)


def test_withdrawing_twice_changes_nothing(house):
    request = house.ask()
    for _ in range(2):
        services.withdraw(request_id=request.pk, person=house.cast.alice, now=house.now)
    assert events(request).count("request.withdrawn") == 1
    assert house.world.closed == [(request.pk, "withdrawn")]


def test_a_request_lapses_once_and_gives_back_what_it_held(house):
    request = house.ask()
    assert services.expire(now=house.later(hours=23)) == 0
    assert services.expire(now=house.later(hours=24)) == 1
    assert services.expire(now=house.later(hours=25)) == 0
    assert house.world.closed == [(request.pk, "expired")]


def test_a_request_that_cannot_be_read_holds_up_no_other_lapse(house):
    broken, sound = house.ask(), house.ask(wall="south")
    Request.objects.filter(pk=broken.pk).update(kind="test.gone")

    assert services.expire(now=house.later(hours=24)) == 1

    sound.refresh_from_db()
    assert sound.state == "expired"


def test_nothing_is_submitted_that_no_policy_covers_or_that_one_forbids(house):
    with pytest.raises(NoPolicy, match="No policy covers"):
        house.ask(environment="nowhere")
    with pytest.raises(services.Denied, match="does not allow"):
        house.ask(environment="museum")


def test_a_policy_may_approve_at_once_and_says_so_in_the_ledger(house):
    request = house.ask(environment="sandbox")
    assert request.state == "approved"
    event = Event.objects.get(request_id=request.pk, event="request.decided")
    assert (event.actor_kind, event.actor_label) == ("system", "Policy")
    assert house.work(request).state == "done"


def test_a_reason_is_needed_and_bounded(house):
    for reason in ("", "   ", "x" * 4001):
        with pytest.raises(services.BadText):
            house.ask(reason=reason)


def test_a_stricter_policy_clears_the_decisions_of_open_requests(house):
    request = house.ask(environment="dev")
    stage = {"name": "Two", "groups": ["security", "payments"], "quorum": 2}
    with transaction.atomic():
        stricter = Rules.from_json({**DEV, "stages": [stage]})
        services.save_policy(rules=stricter, actor=POLICY, now=house.now)
    fresh = Request.objects.get(pk=request.pk)
    assert (fresh.revision, fresh.policy_version.number) == (2, 2)
    with transaction.atomic():
        laxer = Rules.from_json(DEV)
        services.save_policy(rules=laxer, actor=POLICY, now=house.now)
    assert Request.objects.get(pk=request.pk).policy_version.number == 2


def _save(**body):
    with transaction.atomic():
        return services.save_policy(rules=Rules.from_json(body), actor=POLICY, now=timezone.now())


NORTH = {
    "name": "test-north",
    "scope": {"kind": ["test.paint"], "environment": ["dev"], "team": ["payments"]},
    "stages": [{"name": "Two", "groups": ["security", "payments"], "quorum": 2}],
}


def test_a_new_policy_that_fits_better_judges_open_requests_again(house):
    request, other = house.ask(environment="dev"), house.ask(environment="dev", team="security")

    _save(**NORTH)

    fresh, left = Request.objects.get(pk=request.pk), Request.objects.get(pk=other.pk)
    assert (fresh.revision, fresh.policy_version.policy.name) == (2, "test-north")
    assert fresh.plan_digest != request.plan_digest
    assert (left.revision, left.policy_version.policy.name) == (1, "test-dev")
    assert events(request)[-1] == "request.revised"
    with pytest.raises(services.Stale):
        house.say(house.cast.bob, request)
    house.say(house.cast.bob, fresh)
    fresh.refresh_from_db()
    assert fresh.state == "pending", "one approver was enough before"


def test_a_new_policy_that_fits_better_and_asks_less_changes_no_open_request(house):
    request = house.ask()

    _save(**NORTH | {"scope": NORTH["scope"] | {"environment": ["prod"]}, "auto": "approve"})

    fresh = Request.objects.get(pk=request.pk)
    assert (fresh.revision, fresh.policy_version.policy.name) == (1, "test-prod")


def test_a_wider_scope_reaches_open_requests_of_another_policy(house):
    request = house.ask(environment="dev")

    _save(**PROD | {"scope": {"kind": ["test.paint"], "environment": ["prod", "dev"]}})

    assert Request.objects.get(pk=request.pk).policy_version.policy.name == "test-prod"


def test_a_policy_that_no_longer_covers_a_request_goes_on_governing_it(house):
    request = house.ask(environment="dev")

    _save(**DEV | {"scope": {"kind": ["test.paint"], "environment": ["moon"]}})

    fresh = Request.objects.get(pk=request.pk)
    assert (fresh.revision, fresh.policy_version.number) == (1, 1)


def test_a_policy_that_forbids_reaches_open_requests(house):
    request = house.ask(environment="dev")

    _save(name="test-stop", scope={"kind": ["test.paint"], "team": ["payments"]}, auto="deny")

    fresh = Request.objects.get(pk=request.pk)
    assert fresh.policy_version.policy.name == "test-stop"
    with pytest.raises(ports.NotVisible):
        house.say(house.cast.bob, fresh)


def test_a_decided_request_is_not_judged_again(house):
    request = house.ask(environment="dev")
    house.say(house.cast.bob, request)

    _save(**NORTH)

    fresh = Request.objects.get(pk=request.pk)
    assert (fresh.state, fresh.revision) == ("approved", 1)


def test_seeding_policies_twice_changes_nothing(house):
    with transaction.atomic():
        assert services.seed_policies([PROD, DEV], house.now) == 0


def test_the_queue_is_worst_first_and_only_of_what_waits_for_me(house):
    calm, hot = house.ask(wall="calm"), house.ask(wall="hot")
    Request.objects.filter(pk=hot.pk).update(risk_score=80)
    assert [row.request.pk for row in selectors.queue(house.cast.bob)] == [hot.pk, calm.pk]
    assert selectors.queue_count(house.cast.mallory) == 0
    assert selectors.queue_count(house.cast.alice) == 0
    house.say(house.cast.bob, hot)
    assert [row.request.pk for row in selectors.queue(house.cast.bob)] == [calm.pk]


def test_an_unreachable_quorum_says_what_would_mend_it(house):
    people.leave(house.cast.bob, "security", now=house.now)
    request = house.ask()
    shown = selectors.who_decides(request, now=house.now)
    assert not shown.is_reachable
    assert "add an enrolled person to security" in shown.shortfall
    assert [row.request.pk for row in selectors.stuck(now=house.now)] == [request.pk]


def test_the_receipt_signs_the_canonical_decision(house, keys):
    request = house.ask()
    decision = house.say(house.cast.bob, request, seen={"risk": 25})
    assert decision.receipt["factor"]["assurance"] == "server-attested"
    assert keys.receipt.sign(canonical.dumps(decision.receipt)) == bytes(decision.signature)
    assert json.loads(canonical.dumps(decision.seen)) == {"risk": 25}


def test_without_a_signer_there_is_no_decision(house):
    request = house.ask()
    ports.bind(recorder=ledger, signer=None, directory=Directory(), presence=Presence())
    with pytest.raises(ports.NotBound):
        house.say(house.cast.bob, request)
    assert not request.decisions.exists()
    assert Job.objects.filter(kind="request.execute").count() == 0


def test_numbers_rise_and_read_like_numbers(house):
    first, second = house.ask(wall="a"), house.ask(wall="b")
    assert second.number > first.number
    assert first.label == f"REQ-{first.number}"
    assert connection.in_atomic_block
