"""Set-up of an empty installation: opened once by a token, closed for good."""

import re
import threading
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals import queue
from approvals.ports import NotVisible
from keyvault import readiness
from keyvault.accounts import administrators, codes, invitations, lockout, selectors, setup, totp
from keyvault.accounts.devices import TOTPDevice
from keyvault.accounts.models import Installation, Invitation, SetupToken, User
from keyvault.actions import change_membership, deactivate_person, reset_factor
from keyvault.crypto import keyring
from tests import cast as people

SETUP = "/setup/"
FRANK = {
    "name": "Frank",
    "email": "frank@example.com",
    "username": "Frank",
    "password": people.PASSWORD,
}

pytestmark = pytest.mark.django_db


def post(client, step, **fields):
    return client.post(SETUP, {"step": step, **fields})


def pending_code(user):
    device = TOTPDevice.objects.get(user=user, confirmed=False)
    return totp.at_step(device.seed().reveal(), totp.step_at(timezone.now().timestamp()))


def shown_codes(page):
    return re.findall(r"<code>([0-9A-Z-]{23})</code></li>", page.content.decode())


def number_asked(page):
    return int(re.search(r"Type back code number ([0-9]+)", page.content.decode())[1])


def work():
    """Do every job that is due, as a worker would."""
    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())


def to_person(client):
    """Go through set-up up to the form of the first administrator."""
    post(client, "token", token=setup.make_token(now=timezone.now()))
    work()
    assert post(client, "checks").status_code == 302


def to_codes(client):
    """Go through set-up up to the page with the recovery codes."""
    to_person(client)
    post(client, "person", **FRANK)
    assert "Add your second factor" in client.get(SETUP).content.decode()
    return post(client, "factor", code=pending_code(User.objects.get()))


def set_up(client):
    page = to_codes(client)
    typed = shown_codes(page)[number_asked(page) - 1]
    return post(client, "codes", code=typed)


def test_until_then_every_other_page_is_503_and_points_to_set_up():
    for address in ("/", "/auth/login/", "/people/", "/no/such/page/", "/invite/x/"):
        response = Client().get(address)
        assert response.status_code == 503, address
        assert SETUP in response.content.decode()


def test_the_process_answers_its_health_before_set_up():
    assert Client().get("/healthz").status_code == 200


def test_the_wizard_makes_an_administrator_with_factor_codes_and_policies():
    client = Client()
    done = set_up(client)
    assert done.headers["Location"] == reverse("welcome")
    frank = User.objects.get()
    assert frank.username == "frank"
    assert selectors.has_role(frank, "administrators")
    assert selectors.recovery_codes_left(frank) == 10
    assert selectors.solo()
    assert client.get(reverse("welcome")).status_code == 200


def test_set_up_never_opens_again():
    client = Client()
    set_up(client)
    assert client.get(SETUP).status_code == 404
    assert Client().post(SETUP, {"step": "token", "token": "x"}).status_code == 404
    with pytest.raises(setup.AlreadySetUp):
        setup.make_token(now=timezone.now())
    with pytest.raises(CommandError):
        call_command("setup_token", stdout=StringIO())


def test_the_token_works_once_and_is_stored_as_a_digest():
    token = setup.make_token(now=timezone.now())
    assert codes.normalise(token) not in SetupToken.objects.get().digest
    first, second = Client(), Client()
    assert post(first, "token", token=token.lower()).status_code == 302
    refused = post(second, "token", token=token)
    assert refused.status_code == 422
    assert "./kv manage setup_token" in refused.content.decode()


def test_the_token_ends_after_thirty_minutes_and_with_the_next_one():
    now = timezone.now()
    old = setup.make_token(now=now - timedelta(minutes=31))
    with pytest.raises(setup.BadToken):
        setup.spend_token(token=old, ip="192.0.2.1", now=now)
    earlier = setup.make_token(now=now)
    setup.make_token(now=now)
    with pytest.raises(setup.BadToken):
        setup.spend_token(token=earlier, ip="192.0.2.1", now=now)


def test_guessing_the_token_is_locked_out():
    setup.make_token(now=timezone.now())
    for _ in range(5):
        with pytest.raises(setup.BadToken):
            setup.spend_token(token="wrong", ip="192.0.2.1", now=timezone.now())
    with pytest.raises(lockout.LockedOut):
        setup.spend_token(token="wrong", ip="192.0.2.1", now=timezone.now())


def test_no_step_can_be_taken_without_the_token():
    client = Client()
    for step in ("checks", "person", "factor", "codes"):
        page = post(client, step, **FRANK)
        assert "Set-up token" in page.content.decode()
    assert not User.objects.exists()


def test_a_weak_password_and_a_bad_name_are_said_beside_their_fields():
    client = Client()
    to_person(client)
    weak = post(client, "person", **FRANK | {"password": "password1234"})
    assert weak.status_code == 422
    assert "too common" in weak.content.decode()
    bad = post(client, "person", **FRANK | {"username": "a b"})
    assert "Use 1 to 63 small letters" in bad.content.decode()
    assert not User.objects.exists()


def test_only_the_code_that_was_asked_for_closes_set_up():
    client = Client()
    page = to_codes(client)
    other = shown_codes(page)[number_asked(page) % 10]
    assert post(client, "codes", code=other).status_code == 422
    assert setup.is_open()
    again = post(client, "codes", anew="1")
    typed = shown_codes(again)[number_asked(again) - 1]
    assert post(client, "codes", code=typed).status_code == 302
    assert not setup.is_open()


def test_a_broken_off_set_up_starts_again_with_a_new_token():
    to_codes(Client())
    client = Client()
    assert "Set-up token" in client.get(SETUP).content.decode()
    assert set_up(client).headers["Location"] == reverse("welcome")
    assert User.objects.count() == 1


def test_the_command_prints_a_token_that_works():
    out = StringIO()
    call_command("setup_token", stdout=out)
    setup.spend_token(token=out.getvalue().strip(), ip="192.0.2.1", now=timezone.now())


def test_the_qr_code_is_inline_svg_beside_the_same_seed_as_text():
    client = Client()
    to_person(client)
    post(client, "person", **FRANK)
    text = client.get(SETUP).content.decode()
    assert re.search(r'<path d="M[0-9hvzM -]+" fill="#000"/>', text)
    assert re.search(r'<code id="seed">([A-Z2-7]{4} ){7}[A-Z2-7]{4}</code>', text)
    assert "data:" not in text


def invite_grace(client):
    page = client.post(
        reverse("welcome"), {"name": "Grace", "email": "g@example.com", "username": "grace"}
    )
    text = page.content.decode()
    code = re.search(r'<code class="value" id="code">([0-9A-Z-]{23})</code>', text)[1]
    link = re.search(r'<code class="value" id="link">http://localhost:8000([^<]+)</code>', text)[1]
    return link, code


def enrol(client, username):
    page = client.get(reverse("enrol"))
    assert page.status_code == 200
    code = pending_code(User.objects.get(username=username))
    return client.post(reverse("enrol"), {"code": code})


def _leave(frank):
    change_membership.ask(
        person=frank,
        subject_id=frank.pk,
        group="administrators",
        verb="leave",
        reason="Done.",
        now=timezone.now(),
    )


def _deactivate(frank):
    deactivate_person.ask(person=frank, subject_id=frank.pk, reason="Done.", now=timezone.now())


def _reset(frank):
    reset_factor.ask(person=frank, subject_id=frank.pk, reason="New phone.", now=timezone.now())


def test_the_second_administrator_ends_solo_mode_by_enrolling():
    frank, grace = Client(), Client()
    set_up(frank)
    link, code = invite_grace(frank)
    assert grace.get(link).status_code == 200
    taken = grace.post(link, {"code": code, "password": people.PASSWORD})
    assert taken.headers["Location"] == reverse("enrol")
    assert grace.get("/people/").status_code == 403
    assert selectors.solo()
    assert "shown now and never again" in enrol(grace, "grace").content.decode()
    assert not selectors.solo()
    assert grace.get("/people/").status_code == 200
    assert frank.get(reverse("welcome")).headers["Location"] == reverse("overview")
    assert Installation.objects.get().left_solo_at is not None


def test_an_invitation_of_solo_mode_ends_with_solo_mode():
    frank, grace = Client(), Client()
    set_up(frank)
    link, code = invite_grace(frank)
    invited_by = User.objects.get(username="frank")
    spare = invitations.invite_second(
        username="frank2", name="Spare", email="", invited_by=invited_by, now=timezone.now()
    )
    _, spare_code = invitations.show_code(
        invitation_id=spare.pk, person=invited_by, now=timezone.now()
    )
    grace.post(link, {"code": code, "password": people.PASSWORD})
    enrol(grace, "grace")

    with pytest.raises(invitations.BadInvitation):
        invitations.accept(
            invitation_id=spare.pk,
            code=spare_code,
            password=people.PASSWORD,
            ip="192.0.2.1",
            now=timezone.now(),
        )
    assert not User.objects.filter(username="frank2").exists()


@pytest.mark.parametrize("ask", [_leave, _deactivate, _reset])
def test_the_only_administrator_cannot_be_locked_out(ask):
    set_up(Client())
    frank = User.objects.get(username="frank")

    with pytest.raises(administrators.LastAdministrators):
        ask(frank)


def test_an_invitation_works_once_with_its_latest_code_and_in_its_time():
    frank = Client()
    set_up(frank)
    link, first = invite_grace(frank)
    row = Invitation.objects.get()
    shown = frank.post(reverse("invitation-code", args=[row.pk])).content.decode()
    second = re.search(r'<code class="value" id="code">([0-9A-Z-]{23})</code>', shown)[1]
    body = {"password": people.PASSWORD}
    assert Client().post(link, body | {"code": first}).status_code == 422
    Invitation.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert Client().post(link, body | {"code": second}).status_code == 422
    Invitation.objects.update(expires_at=timezone.now() + timedelta(hours=1))
    weak = Client().post(link, {"code": second, "password": "short"})
    assert "too short" in weak.content.decode()
    assert Client().post(link, body | {"code": second}).status_code == 302
    assert Client().post(link, body | {"code": second}).status_code == 422


def test_an_unknown_invitation_looks_like_any_other():
    set_up(Client())
    unknown = Client().get("/invite/00000000-0000-4000-8000-000000000000/")
    assert unknown.status_code == 200
    assert "Take up your invitation" in unknown.content.decode()


def test_only_the_inviter_sees_the_code(cast, client_for):
    with transaction.atomic():
        row = invitations.invite(
            username="heidi",
            name="Heidi",
            email="h@example.com",
            groups=["payments"],
            invited_by=cast.frank,
            now=cast.now,
        )
    address = reverse("invitation-code", args=[row.pk])
    assert client_for(cast.grace).post(address).status_code == 404
    assert client_for(cast.alice).post(address).status_code == 403
    assert client_for(cast.frank).post(address).status_code == 200


def test_a_withdrawn_invitation_opens_nothing_and_frees_its_name(cast, client_for):
    client = client_for(cast.frank)
    with transaction.atomic():
        row = invitations.invite(
            username="heidi",
            name="Heidi",
            email="",
            groups=[],
            invited_by=cast.frank,
            now=cast.now,
        )
    _, code = invitations.show_code(invitation_id=row.pk, person=cast.frank, now=cast.now)
    assert client.post(reverse("invitation-withdraw", args=[row.pk])).status_code == 302
    with pytest.raises(invitations.BadInvitation):
        invitations.accept(
            invitation_id=row.pk,
            code=code,
            password=people.PASSWORD,
            ip="192.0.2.1",
            now=cast.now,
        )
    with transaction.atomic():
        invitations.require_free("heidi", now=cast.now)


def test_an_invitation_that_was_used_meanwhile_is_not_withdrawn(cast, monkeypatch):
    with transaction.atomic():
        row = invitations.invite(
            username="heidi",
            name="Heidi",
            email="",
            groups=[],
            invited_by=cast.frank,
            now=cast.now,
        )
    Invitation.objects.filter(pk=row.pk).update(used_at=cast.now)
    monkeypatch.setattr(invitations, "find_open", lambda *_, **__: row)

    with pytest.raises(NotVisible):
        invitations.withdraw(invitation_id=row.pk, person=cast.frank, now=cast.now)


@pytest.mark.django_db(transaction=True)
def test_of_ten_who_race_for_one_invitation_one_gets_in(cast, monkeypatch):
    monkeypatch.setitem(lockout.LIMITS, "person", 1000)
    with transaction.atomic():
        row = invitations.invite(
            username="heidi",
            name="Heidi",
            email="",
            groups=["payments"],
            invited_by=cast.frank,
            now=cast.now,
            request_id=uuid4(),
        )
    _, code = invitations.show_code(invitation_id=row.pk, person=cast.frank, now=cast.now)
    barrier, outcomes = threading.Barrier(10), []

    def accept():
        barrier.wait()
        try:
            invitations.accept(
                invitation_id=row.pk,
                code=code,
                password=people.PASSWORD,
                ip="192.0.2.1",
                now=timezone.now(),
            )
            outcomes.append("in")
        except invitations.BadInvitation:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=accept) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["in"] + ["refused"] * 9
    assert selectors.is_in(User.objects.get(username="heidi"), "payments")


def test_set_up_waits_until_a_worker_has_proved_itself():
    client = Client()
    post(client, "token", token=setup.make_token(now=timezone.now()))

    page = client.get(SETUP)
    assert "Waiting" in page.content.decode()
    assert page["Refresh"] == "3"
    assert post(client, "checks").status_code == 409
    assert "Self-check" in post(client, "person", **FRANK).content.decode()
    assert not User.objects.exists()

    work()
    page = client.get(SETUP)
    assert "Continue" in page.content.decode()
    assert "Refresh" not in page
    assert post(client, "checks").status_code == 302
    assert "Who are you" in client.get(SETUP).content.decode()


def lights(**changes):
    now = changes.pop("now", timezone.now())
    return {check.title: check for check in readiness.checks(now=now)}


def test_each_red_line_of_the_self_check_says_its_mend(monkeypatch):
    to_person(Client())
    assert {check.light for check in lights().values()} == {"ok"}

    late = lights(now=timezone.now() + timedelta(minutes=2))
    assert late["Clock"].light == "red"
    assert "NTP" in late["Clock"].sentence

    monkeypatch.setattr(readiness, "ping_queue_server", lambda _url: False)
    assert "KEYVAULT_BROKER_URL" in lights()["Queue server"].sentence

    keyring.uninstall("The file kek is missing.")
    assert lights()["Key-encryption key"] == readiness.Check(
        "Key-encryption key", readiness.Light.RED, "The file kek is missing."
    )


def test_a_job_that_nobody_takes_for_a_minute_is_red():
    post(Client(), "token", token=setup.make_token(now=timezone.now()))

    found = lights(now=timezone.now() + timedelta(seconds=90))["Clock and worker"]

    assert found.light == "red"
    assert "Celery worker" in found.sentence
