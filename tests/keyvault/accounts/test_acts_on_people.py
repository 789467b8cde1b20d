"""Memberships, invitations, resets and departures go by approval."""

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse

from approvals import digests, ports, services
from approvals import selectors as approvals
from keyvault.accounts import administrators, gates, invitations, selectors
from keyvault.accounts.models import Invitation, User
from keyvault.actions import (
    change_membership,
    deactivate_person,
    invite_person,
    reset_factor,
)
from keyvault.agents.models import Agent
from tests import cast as people
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders

pytestmark = pytest.mark.django_db
REASON = "needed for the tests"


class Run:
    """A claimed try that nobody disputes."""

    def __init__(self, now):
        self.now = now

    def fence(self):
        """Hold the claim."""

    def reached(self, point):
        """Pass the point."""


@pytest.fixture(autouse=True)
def policies(cast):
    rules.DEFAULTS.put(cast.now)


@pytest.fixture
def run(cast):
    return Run(cast.now)


def execute(request, run):
    stored = approvals.access_request(request.requester, request.pk)
    action = ports.action_class(stored.kind).from_payload(stored.payload)
    return action.execute(request_id=stored.pk, run=run)


def decide(request, person, *, now, verdict="approve"):
    digest = digests.act_digest(
        kind="decide", request_id=request.pk, plan_digest=request.plan_digest, verdict=verdict
    )
    return services.decide(
        request_id=request.pk,
        person=person,
        verdict=verdict,
        plan_digest=request.plan_digest,
        proof_id=people.proof_for(person, digest=digest, now=now),
        now=now,
    )


def test_joining_waits_for_another_administrator_and_then_happens_once(cast, run):
    asked = change_membership.ask(
        person=cast.frank,
        subject_id=cast.mallory.pk,
        group="security",
        verb="join",
        reason=REASON,
        now=cast.now,
    )
    with pytest.raises(services.NotEligible):
        decide(asked, cast.frank, now=cast.now)
    with pytest.raises(services.NotEligible):
        decide(asked, cast.dave, now=cast.now)
    decide(asked, cast.grace, now=cast.now)
    assert execute(asked, run).sentence == "Mallory joined Security."
    assert execute(asked, run).sentence == "Mallory was there already."
    assert selectors.is_in(cast.mallory, "security")
    assert selectors.history(cast.mallory).get().request_id == asked.pk


def test_a_person_without_a_role_asks_about_themselves_only(cast):
    about = {"group": "security", "verb": "join", "reason": REASON, "now": cast.now}
    with pytest.raises(gates.MissingRight):
        change_membership.ask(person=cast.mallory, subject_id=cast.alice.pk, **about)
    asked = change_membership.ask(person=cast.mallory, subject_id=cast.mallory.pk, **about)
    assert asked.kind == "membership.change"


def test_nothing_is_asked_that_is_so_already(cast):
    with pytest.raises(change_membership.NothingToDo, match="already belongs"):
        change_membership.ask(
            person=cast.frank,
            subject_id=cast.bob.pk,
            group="security",
            verb="join",
            reason=REASON,
            now=cast.now,
        )


def test_the_last_two_administrators_cannot_be_asked_away_nor_slip_away(cast, run):
    about = {"group": "administrators", "verb": "leave", "reason": REASON, "now": cast.now}
    with pytest.raises(administrators.LastAdministrators):
        change_membership.ask(person=cast.frank, subject_id=cast.grace.pk, **about)
    people.join(cast.dave, "administrators", now=cast.now)
    asked = change_membership.ask(person=cast.frank, subject_id=cast.grace.pk, **about)
    people.leave(cast.dave, "administrators", now=cast.now)
    with pytest.raises(ports.CannotExecute, match="fewer than two"):
        execute(asked, run)


def test_an_approved_invitation_opens_once_and_its_asker_shows_the_code(cast, run, client_for):
    asked = invite_person.ask(
        person=cast.frank,
        username="Heidi",
        name="Heidi",
        email="heidi@example.com",
        groups=["payments", "auditors"],
        reason=REASON,
        now=cast.now,
    )
    decide(asked, cast.grace, now=cast.now)
    execute(asked, run)
    execute(asked, run)
    row = Invitation.objects.get()
    page = client_for(cast.frank).post(reverse("invitation-code", args=[row.pk]))
    assert "Code for Heidi" in page.content.decode()
    _, code = invitations.show_code(invitation_id=row.pk, person=cast.frank, now=cast.now)
    user = invitations.accept(
        invitation_id=row.pk, code=code, password=people.PASSWORD, ip="192.0.2.1", now=cast.now
    )
    assert {team.slug for team in selectors.teams_of(user)} == {"payments", "auditors"}


def test_a_taken_name_is_not_invited(cast):
    with pytest.raises(invitations.NameTaken):
        invite_person.ask(
            person=cast.frank,
            username="ALICE",
            name="Another",
            email="a@example.com",
            groups=[],
            reason=REASON,
            now=cast.now,
        )


def test_r27_a_factor_is_reset_by_approval_and_enrolled_again_with_a_code(cast, run, client_for):
    asked = reset_factor.ask(person=cast.frank, subject_id=cast.bob.pk, reason=REASON, now=cast.now)
    decide(asked, cast.grace, now=cast.now)
    execute(asked, run)
    execute(asked, run)
    assert not selectors.is_enrolled(cast.bob)
    row = Invitation.objects.get()
    _, code = invitations.show_code(invitation_id=row.pk, person=cast.frank, now=cast.now)
    client = Client()
    link = reverse("enrol-again", args=[row.pk])
    assert client.post(link, {"code": "wrong"}).status_code == 422
    assert client.post(link, {"code": code}).headers["Location"] == reverse("login")
    first = client.post(reverse("login"), {"username": "bob", "password": people.PASSWORD})
    assert first.headers["Location"].startswith(reverse("enrol"))


def test_a_join_invitation_is_no_way_to_enrol_and_the_other_way_round(cast):
    with transaction.atomic():
        row = invitations.invite_to_enrol(user=cast.bob, invited_by=cast.frank, now=cast.now)
    _, code = invitations.show_code(invitation_id=row.pk, person=cast.frank, now=cast.now)
    with pytest.raises(invitations.BadInvitation):
        invitations.accept(
            invitation_id=row.pk,
            code=code,
            password=people.PASSWORD,
            ip="192.0.2.1",
            now=cast.now,
        )


def test_a_departure_is_approved_and_happens_once(cast, run):
    asked = deactivate_person.ask(
        person=cast.frank, subject_id=cast.alice.pk, reason=REASON, now=cast.now
    )
    decide(asked, cast.grace, now=cast.now)
    execute(asked, run)
    execute(asked, run)
    assert not User.objects.get(pk=cast.alice.pk).is_active


def test_a_request_about_people_is_hidden_from_the_rest(cast):
    asked = deactivate_person.ask(
        person=cast.frank, subject_id=cast.alice.pk, reason=REASON, now=cast.now
    )
    assert approvals.access_request(cast.alice, asked.pk)
    assert approvals.access_request(cast.dave, asked.pk)
    with pytest.raises(ports.NotVisible):
        approvals.access_request(cast.mallory, asked.pk)


@pytest.mark.parametrize(
    "payload", [{}, {"person_id": "x"}, {"person_id": None, "group": "g", "verb": "join"}]
)
@pytest.mark.parametrize("kind", ["membership.change", "factor.reset", "person.deactivate"])
def test_a_payload_of_another_shape_is_refused(kind, payload):
    with pytest.raises(ValueError, match=r".+"):
        ports.action_class(kind).from_payload(payload)


# --- pages ---------------------------------------------------------------------------------------


def test_everybody_sees_people_and_only_those_on_duty_see_factors(cast, client_for):
    plain = client_for(cast.alice).get(reverse("people")).content.decode()
    duty = client_for(cast.dave).get(reverse("people")).content.decode()
    for page in (plain, duty):
        assert "Security" in page
        assert "mallory" in page
    assert "Second factor" not in plain
    assert "Second factor" in duty


def test_an_administrator_asks_from_the_page_of_a_person(cast, client_for):
    client = client_for(cast.frank)
    address = reverse("person-change", args=[cast.mallory.pk])
    page = client.get(reverse("person", args=[cast.mallory.pk]))
    assert "Ask for a change" in page.content.decode()
    done = client.post(address, {"act": "join", "group": "security", "reason": REASON})
    assert done.status_code == 302
    empty = client.post(address, {"act": "join", "group": "security", "reason": ""})
    assert empty.status_code == 422
    again = client.post(address, {"act": "leave", "group": "security", "reason": REASON})
    assert again.status_code == 422
    assert "does not belong" in again.content.decode()


def test_nobody_else_is_offered_or_granted_to_ask(cast, client_for):
    client = client_for(cast.mallory)
    page = client.get(reverse("person", args=[cast.alice.pk])).content.decode()
    assert "Ask for a change" not in page
    for act in ("join", "leave", "reset", "deactivate"):
        body = {"act": act, "group": "payments", "reason": REASON}
        answer = client.post(reverse("person-change", args=[cast.alice.pk]), body)
        assert answer.status_code in {403, 422}, act


def test_inviting_takes_the_role(cast, client_for):
    for who in (cast.alice, cast.dave):
        answer = client_for(who).get(reverse("invite-new"))
        assert answer.status_code == 403
        assert "administrators" in answer.content.decode()
    client = client_for(cast.frank)
    assert client.get(reverse("invite-new")).status_code == 200
    body = {
        "name": "Heidi",
        "email": "heidi@example.com",
        "username": "heidi",
        "groups": ["payments"],
        "reason": REASON,
    }
    assert client.post(reverse("invite-new"), body).status_code == 302
    taken = client.post(reverse("invite-new"), body | {"username": "alice"})
    assert taken.status_code == 422
    assert client.get(reverse("invitations")).status_code == 200


def test_an_unknown_person_is_a_404(cast, client_for):
    client = client_for(cast.alice)
    unknown = reverse("person", args=["00000000-0000-4000-8000-000000000000"])
    assert client.get(unknown).status_code == 404


def test_nobody_decides_on_the_own_membership_while_another_administrator_can(cast, client_for):
    people.join(cast.alice, "administrators", now=cast.now - people.JOINED_AGO)
    asked = change_membership.ask(
        person=cast.frank,
        subject_id=cast.grace.pk,
        group="security",
        verb="join",
        reason=REASON,
        now=cast.now,
    )

    with pytest.raises(services.NotEligible, match="about you"):
        decide(asked, cast.grace, now=cast.now)
    page = client_for(cast.grace).get(reverse("request", args=[asked.pk])).content.decode()
    assert "others can decide about it" in page
    assert decide(asked, cast.alice, now=cast.now).verdict == "approve"


def test_with_two_administrators_the_one_concerned_decides_and_the_page_says_so(cast, client_for):
    asked = change_membership.ask(
        person=cast.frank,
        subject_id=cast.grace.pk,
        group="security",
        verb="join",
        reason=REASON,
        now=cast.now,
    )

    address = reverse("request", args=[asked.pk])
    assert "This is about you." in client_for(cast.grace).get(address).content.decode()
    assert "This is about Grace" in client_for(cast.dave).get(address).content.decode()
    assert decide(asked, cast.grace, now=cast.now).verdict == "approve"


def leaving(cast):
    return deactivate_person.ask(
        person=cast.frank, subject_id=cast.alice.pk, reason=REASON, now=cast.now
    )


def test_who_decides_about_a_departure_reads_which_agents_are_left_behind(cast):
    builders.agent(cast, "refund-bot")
    builders.agent(cast, "scout", backup_owner=None)
    builders.agent(cast, "helper", owner=cast.bob, backup_owner=cast.alice)
    builders.agent(cast, "over", backup_owner=None)
    Agent.objects.filter(name="over").update(state="retired")

    asked = leaving(cast)

    said = {point["title"]: point["evidence"] for point in asked.risk}
    assert said["Agents lose their owner"] == "refund-bot (Carol is left), scout (nobody is left)."
    assert said["Agents lose their backup owner"] == "helper (Bob is left)."
    assert any(line.startswith("Agents of this person go on") for line in asked.plan["breaks"])


def test_agents_that_somebody_registers_do_not_hold_the_own_departure_up(cast):
    asked = leaving(cast)
    decide(asked, cast.grace, now=cast.now)
    for number in range(25):
        builders.agent(cast, f"late-{number:02}")

    action = deactivate_person.DeactivatePerson(cast.alice.pk)
    assert action.describe().to_json() == asked.plan
    evidence = next(point.evidence for point in action.risk() if "their owner" in point.title)
    assert evidence.endswith("late-19 (Carol is left) and 5 more.")
