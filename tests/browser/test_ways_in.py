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
from tests.browser import harness

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def judged(assert_clean):
    """Return a function that looks at a page in both widths and judges it."""

    def judge(page, name):
        for width, height in harness.SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            harness.shoot(page, f"{name}-{width}")
            assert_clean(page)
        page.set_viewport_size({"width": 320, "height": 700})
        assert harness.overflow(page) == []

    return judge


def press(page, name):
    page.get_by_role("button", name=name).click()
    page.wait_for_load_state("networkidle")


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


@pytest.mark.parametrize("theme", harness.THEMES)
def test_an_empty_installation_is_set_up_and_leaves_solo_mode(new_context, watch, judged, theme):
    watch.expect("503")
    page = new_context(theme=theme).new_page()
    page.goto("/")
    assert "not set up" in page.inner_text("main").lower()
    page.goto(reverse("setup"))
    judged(page, f"setup-token-{theme}")
    page.get_by_label("Set-up token").fill(setup.make_token(now=timezone.now()))
    press(page, "Continue")
    judged(page, f"setup-checks-waiting-{theme}")
    for job_id in queue.due(ring_again=timedelta(0)):
        queue.run(job_id, worker="tests", now=timezone.now())
    page.goto(reverse("setup"))
    judged(page, f"setup-checks-{theme}")
    press(page, "Continue")
    judged(page, f"setup-person-{theme}")
    page.get_by_label("Name", exact=True).fill("Frank")
    page.get_by_label("E-mail").fill("frank@example.com")
    page.get_by_label("User name").fill("frank")
    page.get_by_label("Password").fill(people.PASSWORD)
    press(page, "Continue")
    judged(page, f"setup-factor-{theme}")
    frank = selectors.user_by_username("frank")
    enter_code(page, code_of(frank, confirmed=False))
    press(page, "Verify and continue")
    judged(page, f"setup-codes-{theme}")
    type_back(page)
    judged(page, f"welcome-{theme}")
    link, code = invite_grace(page, judged, theme)
    take_up(new_context(theme=theme).new_page(), judged, theme, link=link, code=code)
    assert not selectors.solo()


def invite_grace(page, judged, theme):
    page.get_by_label("Name", exact=True).fill("Grace")
    page.get_by_label("E-mail").fill("grace@example.com")
    page.get_by_label("User name").fill("grace")
    press(page, "Invite and show the code")
    judged(page, f"invitation-code-{theme}")
    return page.inner_text("#link"), page.inner_text("#code")


def take_up(other, judged, theme, *, link, code):
    other.goto(link.replace("http://localhost:8000", ""))
    judged(other, f"invite-{theme}")
    enter_code(other, code)
    other.get_by_label("Choose a password").fill(people.PASSWORD)
    press(other, "Make my account")
    judged(other, f"enrol-{theme}")
    grace = selectors.user_by_username("grace")
    enter_code(other, code_of(grace, confirmed=False))
    press(other, "Verify and continue")
    judged(other, f"codes-{theme}")
    type_back(other)


@pytest.mark.parametrize("theme", harness.THEMES)
def test_signing_in_and_stepping_up(cast, new_context, watch, judged, theme):
    watch.expect("422")
    page = new_context(theme=theme).new_page()
    page.goto(reverse("account"))
    judged(page, f"login-{theme}")
    page.get_by_label("User name").fill("alice")
    page.get_by_label("Password").fill("wrong")
    press(page, "Sign in")
    judged(page, f"login-refused-{theme}")
    page.get_by_label("Password").fill(people.PASSWORD)
    press(page, "Sign in")
    judged(page, f"mfa-{theme}")
    page.get_by_role("link", name="Use a recovery code").click()
    judged(page, f"recovery-{theme}")
    page.get_by_role("link", name="Use the app").click()
    enter_code(page, people.totp_code(cast.alice))
    press(page, "Verify")
    judged(page, f"account-{theme}")
    press(page, "Make new recovery codes")
    judged(page, f"step-up-{theme}")
    enter_code(page, "000000")
    press(page, "Make new recovery codes")
    judged(page, f"step-up-refused-{theme}")
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
        judged(page, f"{name}-light")
