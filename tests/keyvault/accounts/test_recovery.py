"""The host opens the way back in for an administrator: told, waited for, stoppable."""

import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core import mail
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from approvals import queue
from approvals.models import Job
from keyvault.accounts import selectors
from keyvault.accounts.models import Invitation
from keyvault.actions import recover_administrator
from keyvault.audit.models import Event
from keyvault.crypto import keyring
from tests import cast as people

pytestmark = pytest.mark.django_db


def command(username="frank"):
    out = StringIO()
    call_command("recover_admin", username, stdout=out)
    return out.getvalue()


def work():
    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())


def a_day_later():
    Job.objects.filter(kind=recover_administrator.RECOVER).update(due_at=timezone.now())
    work()


def events():
    return set(Event.objects.values_list("event", flat=True))


def test_after_a_day_the_host_gets_one_enrolment(cast):
    assert "Everybody enrolled is told" in command()
    work()
    assert selectors.is_enrolled(cast.frank)
    assert not Invitation.objects.exists()

    a_day_later()
    assert not selectors.is_enrolled(cast.frank)
    link, code = re.search(r"link \S+(/invite/\S+)\ncode (\S+)", command()).groups()
    browser = Client()
    assert browser.post(link, {"code": code}).status_code == 302
    assert browser.post(link, {"code": code}).status_code == 422
    browser.post("/auth/login/", {"username": "frank", "password": people.PASSWORD})
    assert "/auth/enrol/" in browser.get("/auth/mfa/").url
    assert {"recovery.asked", "recovery.opened", "factor.reset"} <= events()


def test_asking_twice_keeps_the_first_wait(cast):
    assert command() == command()
    assert Job.objects.filter(kind=recover_administrator.RECOVER).count() == 1


def test_without_the_key_encryption_key_nothing_begins(cast):
    keyring.uninstall("The file kek is missing.")

    with pytest.raises(CommandError, match="key-encryption key"):
        command()
    assert not Job.objects.exists()


@pytest.mark.parametrize("username", ["alice", "nobody"])
def test_only_an_administrator_is_recovered(cast, username):
    with pytest.raises(CommandError):
        command(username)


def test_everybody_enrolled_is_told_by_mail_and_on_the_page(cast, client_for, settings):
    settings.APPROVALS_MAIL = True
    command()
    work()

    assert len(mail.outbox) == 1
    assert set(mail.outbox[0].bcc) == {person.email for person in cast.everybody()}
    assert "Recovery of Frank" in client_for(cast.mallory).get("/system/").content.decode()


def test_an_administrator_stops_it_with_a_fresh_code(cast, client_for):
    command()
    address = f"/system/recovery/{cast.frank.pk}/cancel/"
    assert client_for(cast.mallory).post(address).status_code == 403
    browser = client_for(cast.grace)
    assert "Cancel the recovery" in browser.post(address).content.decode()
    assert recover_administrator.waiting()

    done = browser.post(address, {"otp_code": people.totp_code(cast.grace)})

    assert done.status_code == 302
    a_day_later()
    assert not recover_administrator.waiting()
    assert selectors.is_enrolled(cast.frank)
    assert "recovery.cancelled" in events()


def test_whoever_is_no_administrator_any_more_is_not_recovered(cast):
    command()
    people.join(cast.alice, "administrators", now=cast.now)
    people.leave(cast.frank, "administrators", now=cast.now + timedelta(minutes=1))

    a_day_later()

    assert selectors.is_enrolled(cast.frank)
    assert queue.held()
