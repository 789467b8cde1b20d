"""How a lease ends: returned, over, withdrawn, by the kill switch, or lapsed where no call helps."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from approvals import queue
from approvals.models import Job
from approvals.ports import NotPresent, NotVisible
from keyvault.agents import endings as agent_endings
from keyvault.agents import memberships
from keyvault.agents.models import Agent
from keyvault.audit.models import Event
from keyvault.connections.models import Connection
from keyvault.inventory.models import Grant
from keyvault.leases import endings, services, sweep, withdrawing
from keyvault.leases.models import Lease
from keyvault.plugins.faults import Fault
from keyvault.rooms import Room
from tests import cast as people
from tests.keyvault.agents import builders
from tests.keyvault.agents.test_stops import act, stops

pytestmark = pytest.mark.django_db
END = b"DELETE /installation/token"


def last_event() -> Event:
    return Event.objects.filter(event__startswith="lease.").order_by("at", "id").last()


def test_a_returned_lease_is_ended_at_the_provider_at_once(shop):
    lent = shop.take()

    row = shop.give_back(lent.lease)

    assert (row.state, shop.living(), shop.sealed()) == ("returned", 0, 0)
    assert last_event().event == "lease.returned"
    assert shop.give_back(lent.lease).state == "returned", "to repeat it does no harm"
    shop.work(after_s=60)
    assert Event.objects.filter(event="lease.returned").count() == 1
    assert not queue.held()


def test_a_return_that_the_provider_does_not_answer_is_gone_on_with_by_a_job(shop):
    lent = shop.take()
    with shop.proxy.failing(Fault.LOSE_REQUEST, END):
        assert shop.give_back(lent.lease).state == "ending"
        assert shop.proxy.hits == 1
        assert shop.give_back(lent.lease).state == "ending"
        assert shop.proxy.hits == 1, "to repeat it calls the provider no second time"
    assert (shop.living(), shop.sealed()) == (1, 1)

    Job.objects.update(due_at=shop.now)
    shop.work(after_s=31)

    assert (shop.state(lent.lease), shop.living(), shop.sealed()) == ("returned", 0, 0)


def test_a_return_that_finds_no_place_is_left_to_a_job_that_is_due_at_once(shop, monkeypatch):
    lent = shop.take()
    asked = len(shop.server.asked)
    with monkeypatch.context() as patched:
        patched.setattr(services, "room", Room(0))
        assert shop.give_back(lent.lease).state == "ending"
        assert shop.give_back(lent.lease).state == "ending"
    assert len(shop.server.asked) == asked

    shop.house.work()

    assert (shop.state(lent.lease), shop.living(), shop.sealed()) == ("returned", 0, 0)


def test_an_end_whose_answer_was_lost_is_repeated_and_harms_nothing(shop):
    lent, other = shop.take(), shop.take()
    with shop.proxy.failing(Fault.LOSE_ANSWER, END):
        assert shop.give_back(lent.lease).state == "ending"
    assert shop.living() == 1

    Job.objects.update(due_at=shop.now)
    shop.work(after_s=31)

    assert shop.state(lent.lease) == "returned"
    assert (shop.state(other.lease), shop.living()) == ("open", 1)


def test_nobody_else_returns_or_renews_it_and_missing_looks_the_same(shop, cast):
    lease = shop.take().lease
    other = builders.token(cast, builders.agent(cast, "other-bot")).token
    narrowed = builders.token(cast, shop.agent, keys=["another-key"]).token
    person = builders.token(cast, cast.alice).token
    for token in (other, narrowed, person):
        for deed in (services.give_back, services.renew):
            with pytest.raises(NotVisible):
                deed(token=token, lease_id=lease.pk, now=shop.now)
    with pytest.raises(NotVisible):
        services.give_back(token=shop.token, lease_id=uuid4(), now=shop.now)
    assert shop.state(lease) == "open"


def test_an_agent_that_lost_its_right_still_returns_what_it_holds(shop):
    lease = shop.take().lease
    Grant.objects.filter(pk=shop.grant.pk).update(ended_at=shop.now)
    assert shop.give_back(lease).state == "returned"


def test_a_lease_is_renewed_within_the_life_of_its_credential(shop):
    lease = shop.take(ttl_s=600).lease
    later = shop.now + timedelta(minutes=5)

    renewed = services.renew(token=shop.token, lease_id=lease.pk, ttl_s=900, now=later)

    assert renewed.expires_at == later + timedelta(minutes=15)
    assert last_event().event == "lease.renewed"
    same = services.renew(token=shop.token, lease_id=lease.pk, ttl_s=60, now=later)
    assert same.expires_at == renewed.expires_at, "it lasts longer than asked already"
    longest = services.renew(token=shop.token, lease_id=lease.pk, ttl_s=86_400, now=later)
    # GitHub's hour begins a little later than the lease, and is told in whole seconds.
    assert longest.expires_at == min(lease.lapses_at, lease.created_at + timedelta(hours=1))
    with pytest.raises(services.NotRenewable, match="Take a new one"):
        services.renew(token=shop.token, lease_id=lease.pk, ttl_s=900, now=later)
    assert Event.objects.filter(event="lease.renewed").count() == 2


def test_a_lease_is_not_renewed_beyond_the_grant_nor_without_it(shop):
    lease = shop.take(ttl_s=60).lease
    end = shop.now + timedelta(seconds=90)
    Grant.objects.filter(pk=shop.grant.pk).update(ends_at=end)
    assert services.renew(token=shop.token, lease_id=lease.pk, now=shop.now).expires_at == end
    Grant.objects.filter(pk=shop.grant.pk).update(ended_at=shop.now)
    with pytest.raises(NotVisible):
        services.renew(token=shop.token, lease_id=lease.pk, now=shop.now)


def test_a_lease_that_is_over_or_ending_is_not_renewed(shop):
    lease = shop.take(ttl_s=60).lease
    with pytest.raises(services.NotOpen) as over:
        services.renew(token=shop.token, lease_id=lease.pk, now=lease.expires_at)
    assert str(over.value) == "This lease is over. Take a new one."
    shop.give_back(lease)
    with pytest.raises(services.NotOpen, match="returned"):
        services.renew(token=shop.token, lease_id=lease.pk, now=shop.now)


def test_when_its_time_is_over_it_is_ended_although_the_provider_would_go_on(shop):
    lease, longer = shop.take(ttl_s=600).lease, shop.take(ttl_s=1200).lease
    shop.work(after_s=599)
    assert shop.state(lease) == "open"

    shop.work(after_s=1)

    assert (shop.state(lease), shop.state(longer), shop.living()) == ("expired", "open", 1)
    assert last_event().event == "lease.expired"


@pytest.mark.parametrize(
    "way", ["suspended", "retired", "grant ended", "grant ran out", "left the team", "key revoked"]
)
def test_the_kill_switch_ends_what_is_held_at_the_provider(shop, cast, way):
    if way == "left the team":
        with transaction.atomic():
            memberships.join(
                agent_id=shop.agent.pk,
                group=cast.payments.group,
                actor=builders.TESTS,
                now=cast.now,
                request_id=uuid4(),
            )
        builders.granted(cast, cast.payments.group, shop.key)
        Grant.objects.filter(pk=shop.grant.pk).update(ended_at=cast.now)
    lease = shop.take().lease
    shop.work(after_s=1)
    assert shop.state(lease) == "open"

    _take_right(shop, cast, way)
    shop.work(after_s=1)

    assert (shop.state(lease), shop.living(), shop.sealed()) == ("withdrawn", 0, 0)
    cause = Event.objects.get(event="lease.ending").fields["cause"]
    words = {"suspended": "is suspended", "retired": "is retired", "key revoked": "is revoked"}
    assert words.get(way, "may not use") in cause


def _take_right(shop, cast, way: str) -> None:
    if way == "suspended":
        act(stops.SUSPEND, cast, cast.alice, shop.agent)
    elif way == "retired":
        act(stops.RETIRE, cast, cast.alice, shop.agent)
    elif way == "grant ended":
        bound = agent_endings.grant_digest(shop.grant)
        proof = people.proof_for(cast.alice, digest=bound, now=cast.now)
        agent_endings.end_grant(
            person=cast.alice, grant_id=shop.grant.pk, proof_id=proof, now=cast.now
        )
    elif way == "grant ran out":
        Grant.objects.filter(pk=shop.grant.pk).update(ends_at=shop.now)
    elif way == "left the team":
        bound = agent_endings.leave_digest(shop.agent, "payments")
        proof = people.proof_for(cast.alice, digest=bound, now=cast.now)
        agent_endings.leave(
            person=cast.alice, name=shop.agent.name, team="payments", proof_id=proof, now=cast.now
        )
    else:
        shop.house.say(cast.bob, shop.house.revoke(shop.key))
        shop.house.work()


def test_to_revoke_a_key_names_who_took_leases_of_it(shop):
    shop.give_back(shop.take().lease)

    request = shop.house.revoke(shop.key)

    assert "no lease is given any more" in request.plan["sentence"]
    [point] = [point for point in request.risk if point["title"] == "In use"]
    assert shop.agent.name in point["evidence"]


def test_a_suspended_agent_s_other_rights_come_back_and_its_lease_does_not(shop, cast):
    lease = shop.take().lease
    act(stops.SUSPEND, cast, cast.alice, shop.agent)
    shop.work(after_s=1)
    act(stops.RESUME, cast, cast.alice, shop.agent)
    shop.work(after_s=1)
    assert shop.state(lease) == "withdrawn"
    assert shop.take().lease.state == "open"


@pytest.mark.parametrize("name", ["alice", "carol", "frank"])
def test_whoever_may_ends_a_lease_with_a_code(shop, cast, name):
    lease, person = shop.take().lease, getattr(cast, name)
    proof = people.proof_for(person, digest=withdrawing.digest(lease), now=cast.now)

    row = withdrawing.withdraw(person=person, lease_id=lease.pk, proof_id=proof, now=cast.now)

    assert row.state == "ending"
    shop.work()
    assert (shop.state(lease), shop.living()) == ("withdrawn", 0)
    assert Event.objects.get(event="lease.ending").actor_id == str(person.pk)


@pytest.mark.parametrize("name", ["bob", "dave", "erin", "mallory"])
def test_nobody_else_ends_a_lease_and_nobody_without_the_right_code(shop, cast, name):
    lease, person = shop.take().lease, getattr(cast, name)
    proof = people.proof_for(person, digest=withdrawing.digest(lease), now=cast.now)
    with pytest.raises(NotVisible):
        withdrawing.withdraw(person=person, lease_id=lease.pk, proof_id=proof, now=cast.now)
    other = people.proof_for(cast.alice, digest="another act", now=cast.now)
    with pytest.raises(NotPresent):
        withdrawing.withdraw(person=cast.alice, lease_id=lease.pk, proof_id=other, now=cast.now)
    assert shop.state(lease) == "open"


def test_r63_what_the_provider_refuses_to_end_is_held_for_a_person_until_it_lapses(shop):
    lease = shop.take().lease
    shop.server.fail(403, 20)
    assert shop.give_back(lease).state == "ending"
    Job.objects.update(due_at=shop.now)
    shop.work(after_s=31)
    [job] = queue.held()
    assert (job.kind, job.subject_id) == (endings.JOB, lease.pk)

    sweep.run(lease.lapses_at)

    assert shop.state(lease) == "returned"
    assert "by itself" in last_event().fields["note"]
    assert not queue.held()
    assert shop.sealed() == 0


@pytest.mark.parametrize("state", [Job.State.READY, Job.State.HELD])
def test_a_job_that_nobody_has_begun_is_called_off_when_its_lease_has_ended(shop, state):
    lease = shop.take().lease
    with shop.proxy.failing(Fault.LOSE_REQUEST, END):
        shop.give_back(lease)
    Job.objects.filter(kind=endings.JOB).update(state=state)

    endings.finish(lease.pk, actor=endings.WORKER, now=shop.now)

    assert shop.state(lease) == "returned"
    job = Job.objects.get(kind=endings.JOB)
    assert (job.state, job.code) == (Job.State.DONE, "cancelled")
    assert not queue.held()


def test_a_job_that_ends_its_lease_is_done_and_not_called_off(shop):
    lease = shop.take().lease
    with shop.proxy.failing(Fault.LOSE_REQUEST, END):
        shop.give_back(lease)
    Job.objects.filter(kind=endings.JOB).update(due_at=shop.now)

    shop.work(after_s=31)

    job = Job.objects.get(kind=endings.JOB)
    assert (job.state, job.code) == (Job.State.DONE, "")
    assert shop.state(lease) == "returned"


def test_a_connection_that_was_led_elsewhere_is_not_asked_to_end_it(shop):
    lease = shop.take().lease
    Connection.objects.filter(pk=shop.where.pk).update(config={**shop.where.config, "app": "other"})
    asked = len(shop.server.asked)

    assert shop.give_back(lease).state == "ending"

    assert len(shop.server.asked) == asked
    sweep.run(lease.lapses_at)
    assert shop.state(lease) == "returned"


def test_a_lease_that_is_being_made_cannot_be_returned(shop):
    lease = shop.take().lease
    Lease.objects.update(state="minting", taken_at=None)
    with pytest.raises(services.NotOpen, match="still being made"):
        shop.give_back(lease)


def test_every_opening_of_what_lies_sealed_is_on_record(shop):
    shop.give_back(shop.take().lease)
    opened = Event.objects.get(event="secret.opened", subject_kind="lease")
    assert opened.fields == {"number": 1, "fields": ["token"], "purpose": "end a lease"}


def test_what_ended_long_ago_is_forgotten_and_what_lives_is_not(shop):
    old = shop.give_back(shop.take().lease)
    held = shop.take().lease

    assert sweep.forget(now=old.ended_at + timedelta(days=400)) == 0
    assert sweep.forget(now=old.ended_at + timedelta(days=400, seconds=1)) == 1

    assert list(Lease.objects.values_list("pk", flat=True)) == [held.pk]
    assert Event.objects.filter(event="lease.returned").count() == 1


def test_the_sweep_leaves_everybody_else_alone(shop, cast):
    lease = shop.take().lease
    Agent.objects.exclude(pk=shop.agent.pk).update(state="suspended")
    assert sweep.run(shop.now) == 0
    assert shop.state(lease) == "open"
