"""The ways in, in a real browser: set-up, invitation, sign-in, step-up; each page judged on the way."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from approvals import queue
from keyvault.accounts import selectors, setup, totp
from keyvault.accounts.devices import TOTPDevice
from tests import cast as people

pytestmark = pytest.mark.django_db(transaction=True)


def press(page, name):
    with page.expect_navigation(wait_until="networkidle"):
        page.get_by_role("button", name=name).click()


def code_of(user, *, confirmed):
    device = TOTPDevice.objects.get(user=user, confirmed=confirmed)
    step = totp.step_at(timezone.now().timestamp())
    return totp.at_step(device.seed().reveal(), max(step, device.last_step + 1))


def enter_code(page, code):
    page.get_by_role("textbox", name="Code", exact=True).fill(code)


def type_back(page):
    number = int(re.search(r"code number ([0-9]+)", page.inner_text("main"))[1])
    shown = page.locator("#recovery-codes code").nth(number - 1).inner_text()
    page.get_by_label("Type back code number").fill(shown)
    press(page, "I have kept them")


def test_an_empty_installation_is_set_up_and_leaves_solo_mode(new_context, watch, judged):
    watch.expect("503")
    page = new_context().new_page()
    page.goto("/")
    assert "not set up" in page.inner_text("main").lower()
    page.goto(reverse("setup"))
    judged(page, "setup-token")
    page.get_by_label("Set-up token").fill(setup.make_token(now=timezone.now()))
    press(page, "Continue")
    judged(page, "setup-checks-waiting")
    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())
    page.goto(reverse("setup"))
    judged(page, "setup-checks")
    press(page, "Continue")
    judged(page, "setup-person")
    page.get_by_label("Name", exact=True).fill("Frank")
    page.get_by_label("E-mail").fill("frank@example.com")
    page.get_by_label("User name").fill("frank")
    page.get_by_label("Password").fill(people.PASSWORD)
    press(page, "Continue")
    judged(page, "setup-factor")
    frank = selectors.user_by_username("frank")
    enter_code(page, code_of(frank, confirmed=False))
    press(page, "Verify and continue")
    judged(page, "setup-codes")
    type_back(page)
    judged(page, "welcome")
    link, code = invite_grace(page, judged)
    take_up(new_context().new_page(), judged, link=link, code=code)
    assert not selectors.solo()


def invite_grace(page, judged):
    page.get_by_label("Name", exact=True).fill("Grace")
    page.get_by_label("E-mail").fill("grace@example.com")
    page.get_by_label("User name").fill("grace")
    press(page, "Invite and show the code")
    judged(page, "invitation-code")
    return page.inner_text("#link"), page.inner_text("#code")


def take_up(other, judged, *, link, code):
    other.goto(link.replace("http://localhost:8000", ""))
    judged(other, "invite")
    enter_code(other, code)
    other.get_by_label("Choose a password").fill(people.PASSWORD)
    press(other, "Make my account")
    judged(other, "enrol")
    grace = selectors.user_by_username("grace")
    enter_code(other, code_of(grace, confirmed=False))
    press(other, "Verify and continue")
    judged(other, "codes")
    type_back(other)


def test_signing_in_and_stepping_up(cast, new_context, watch, judged):
    watch.expect("422")
    page = new_context().new_page()
    page.goto(reverse("account"))
    judged(page, "login")
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("wrong")
    press(page, "Sign in")
    judged(page, "login-refused")
    page.get_by_label("Password").fill(people.PASSWORD)
    press(page, "Sign in")
    judged(page, "mfa")
    page.get_by_role("link", name="Use a recovery code").click()
    judged(page, "recovery")
    page.get_by_role("link", name="Use the app").click()
    enter_code(page, people.totp_code(cast.alice))
    press(page, "Verify")
    judged(page, "account")
    press(page, "Make new recovery codes")
    judged(page, "step-up")
    enter_code(page, "000000")
    press(page, "Make new recovery codes")
    judged(page, "step-up-refused")
    enter_code(page, people.totp_code(cast.alice))
    press(page, "Make new recovery codes")
    type_back(page)
    assert selectors.recovery_codes_left(cast.alice) == 10
    press(page, "Sign out everywhere")
    assert page.url.endswith(reverse("login"))


def test_the_poll_of_another_tab_does_not_sign_anybody_out(cast, signed_in_page):
    """Two tabs, and a step-up that changes the session's key in one of them."""
    page = signed_in_page(cast.alice)
    page.goto(reverse("account"))
    other = page.context.new_page()
    other.goto(reverse("people"))
    press(page, "Make new recovery codes")
    enter_code(page, people.totp_code(cast.alice))
    press(page, "Make new recovery codes")
    other.reload()
    assert other.url.endswith(reverse("people"))


def test_inviting_and_asking_about_a_person_are_clean(cast, signed_in_page, judged):
    page = signed_in_page(cast.frank)
    for name, address in (
        ("invite-new", reverse("invite-new")),
        ("invitations", reverse("invitations")),
        ("person-admin", reverse("person", args=[cast.bob.pk])),
    ):
        page.goto(address)
        judged(page, name)
