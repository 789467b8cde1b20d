"""A person sees where they are signed in, ends a session, and hears of acts on their factors."""

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.db import transaction
from django.test import Client
from django.utils import timezone

from approvals import queue
from keyvault.accounts import factors, services
from tests import cast as people

pytestmark = pytest.mark.django_db
ACCOUNT = "/account/security/"


def signed_in(person, agent="Firefox"):
    return people.sign_in(Client(headers={"user-agent": agent}), person)


def work():
    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())


def end_links(page):
    return re.findall(r"/account/security/sessions/[0-9a-f]{16}/end/", page.content.decode())


@pytest.mark.parametrize("page", ["/", "/keys/", ACCOUNT])
def test_every_page_signs_out_by_post(cast, page):
    browser = signed_in(cast.alice)
    assert 'aria-label="Sign out"' in browser.get(page).content.decode()
    assert browser.get("/auth/logout/").status_code == 405
    assert browser.post("/auth/logout/").status_code == 302
    assert browser.get(page).status_code == 302


def test_a_person_ends_one_other_session_and_keeps_this_one(cast):
    here, there, bob = signed_in(cast.alice), signed_in(cast.alice), signed_in(cast.bob)
    page = here.get(ACCOUNT)
    assert "This browser" in page.content.decode()
    (link,) = end_links(page)

    assert bob.post(link).status_code == 404
    assert here.post(link).status_code == 302

    assert there.get(ACCOUNT).status_code == 302
    assert here.get(ACCOUNT).status_code == 200
    assert bob.get(ACCOUNT).status_code == 200
    assert end_links(here.get(ACCOUNT)) == []
    assert here.post(link).status_code == 404


def test_the_list_says_where_a_session_was_opened(cast, totp):
    browser = Client(headers={"user-agent": "<b>Evil"})
    browser.post("/auth/login/", {"username": "alice", "password": people.PASSWORD})
    browser.post("/auth/mfa/", {"code": totp(cast.alice)})

    page = browser.get(ACCOUNT).content.decode()

    assert "127.0.0.1" in page
    assert "<b>Evil" not in page
    assert browser.session.session_key not in page


def test_r27_a_reset_is_told_by_mail_and_on_the_overview(cast, settings):
    settings.APPROVALS_MAIL = True
    with transaction.atomic():
        services.reset_factor(user=cast.alice, now=timezone.now(), actor=people.HOST)
    people.enrol(cast.alice, now=timezone.now())
    work()

    assert [letter.bcc for letter in mail.outbox] == [["alice@example.com"]]
    page = signed_in(cast.alice).get("/").content.decode()
    assert "Your second factor was reset" in page
    assert "second factor was reset" not in signed_in(cast.bob).get("/").content.decode()


def test_r27_a_used_recovery_code_is_told_by_mail_and_on_the_overview(cast, settings):
    settings.APPROVALS_MAIL = True
    code = people.recovery_codes(cast.alice, now=cast.now)[0]
    factors.verify_recovery(user=cast.alice, code=code, ip="192.0.2.1", now=timezone.now())
    work()

    assert "recovery code" in mail.outbox[0].subject
    assert code not in mail.outbox[0].body
    assert "recovery codes was used" in signed_in(cast.alice).get("/").content.decode()
