"""Signing a command line in: the whole way, every refusal, and one token under a race."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.ports import NotPresent, NotVisible
from keyvault.accounts import lockout, own_account
from keyvault.accounts import services as accounts
from keyvault.agents import device_flow, issuing, tokens
from keyvault.agents.devices import DeviceLogin
from keyvault.agents.models import AccessToken
from keyvault.agents.tokens import BadToken
from keyvault.audit.models import Denial, Event
from tests import cast as people
from tests import races

pytestmark = pytest.mark.django_db
START, TOKEN = "/api/v1/oauth/device", "/api/v1/oauth/token"
HOST = "alice on workbench"


def start(**more):
    return Client().post(
        START,
        "client_name=alice+on+workbench",
        content_type="application/x-www-form-urlencoded",
        **more,
    )


def poll(device_code):
    body = f"grant_type={device_flow_grant()}&device_code={device_code}"
    return Client().post(TOKEN, body, content_type="application/x-www-form-urlencoded")


def device_flow_grant():
    return "urn:ietf:params:oauth:grant-type:device_code"


def confirm(browser, code, user, totp, *, decision="allow"):
    fields = {"user_code": code, "decision": decision}
    return browser.post(reverse("device-decide"), {**fields, "otp_code": totp(user)})


def begun(now, ip="192.0.2.7"):
    return device_flow.begin(client_name=HOST, ip=ip, now=now)


def allowed(cast, now=None):
    """Return a sign-in that alice has allowed."""
    made = begun(now or cast.now)
    DeviceLogin.objects.filter(pk=made.login.pk).update(
        user=cast.alice,
        is_allowed=True,
        decided_at=now or cast.now,
        epoch=cast.alice.session_epoch,
    )
    return made


def test_a_person_signs_a_command_line_in(cast, client_for, totp):
    said = start().json()
    browser = client_for(cast.alice)

    assert said["verification_uri"].endswith("/device/")
    assert said["expires_in"] == 600
    assert poll(said["device_code"]).json()["error"] == "authorization_pending"
    shown = browser.post(reverse("device"), {"user_code": said["user_code"].lower()})
    assert HOST in shown.content.decode()
    assert "127.0.0.1" in shown.content.decode()

    done = confirm(browser, said["user_code"], cast.alice, totp)
    assert "The command line is signed in" in done.content.decode()
    got = poll(said["device_code"])

    body = got.json()
    assert (got.status_code, body["person"], body["expires_in"]) == (200, "alice", 8 * 3600)
    row = tokens.authenticate(body["access_token"], now=timezone.now())
    assert (row.user, row.agent, row.holder) == (cast.alice, None, HOST)
    assert poll(said["device_code"]).json()["error"] == "expired_token"
    assert list(
        Event.objects.filter(event__in=["device_login.allowed", "token.issued"])
        .order_by("at")
        .values_list("event", flat=True)
    ) == ["device_login.allowed", "token.issued"]


def test_neither_code_is_in_the_database(cast):
    said = start().json()

    kept = " ".join(map(str, DeviceLogin.objects.values_list().get()))

    assert said["device_code"] not in kept
    assert said["user_code"] not in kept
    assert said["user_code"].replace("-", "") not in kept


def test_allowing_takes_a_fresh_code_of_the_app(cast, client_for):
    said, browser = start().json(), client_for(cast.alice)

    asked = browser.post(
        reverse("device-decide"), {"user_code": said["user_code"], "decision": "allow"}
    )
    wrong = browser.post(
        reverse("device-decide"),
        {"user_code": said["user_code"], "decision": "allow", "otp_code": "000000"},
    )

    assert "otp_code" in asked.content.decode()
    assert wrong.status_code == 422
    assert poll(said["device_code"]).json()["error"] == "authorization_pending"


def test_a_proof_for_one_sign_in_opens_no_other(cast, client_for, totp):
    first, second = begun(cast.now), begun(cast.now)
    browser = client_for(cast.alice)
    page = browser.post(
        reverse("device-decide"),
        {"user_code": first.user_code, "decision": "allow", "otp_code": totp(cast.alice)},
    )
    assert page.status_code == 200
    from keyvault.accounts.devices import StepUp

    proof = StepUp.objects.get()
    StepUp.objects.update(used_at=None)

    with pytest.raises(NotPresent):
        device_flow.allow(
            login_id=second.login.pk, user=cast.alice, proof_id=proof.pk, now=timezone.now()
        )


def test_refusing_takes_no_code_and_tells_the_command_line(cast, client_for):
    said, browser = start().json(), client_for(cast.alice)

    page = browser.post(
        reverse("device-decide"), {"user_code": said["user_code"], "decision": "refuse"}
    )

    assert "Refused" in page.content.decode()
    assert poll(said["device_code"]).json()["error"] == "access_denied"
    assert Event.objects.filter(event="device_login.refused").count() == 1
    assert not AccessToken.objects.exists()


def test_a_code_holds_for_ten_minutes(cast):
    made = begun(cast.now)
    later = cast.now + timedelta(minutes=10)

    with pytest.raises(device_flow.WrongCode):
        device_flow.find(code=made.user_code, user=cast.alice, ip="192.0.2.1", now=later)
    with pytest.raises(NotVisible):
        device_flow.refuse(login_id=made.login.pk, user=cast.alice, now=later)
    with pytest.raises(device_flow.Lapsed):
        device_flow.redeem(device_code=made.device_code.reveal().decode(), now=later)


def test_who_polls_too_fast_is_told_and_waits_longer(cast):
    made = begun(cast.now)
    code = made.device_code.reveal().decode()
    at = [cast.now + timedelta(seconds=s) for s in (0, 4, 13, 24)]

    with pytest.raises(device_flow.Pending):
        device_flow.redeem(device_code=code, now=at[0])
    with pytest.raises(device_flow.TooFast):
        device_flow.redeem(device_code=code, now=at[1])
    with pytest.raises(device_flow.TooFast):
        device_flow.redeem(device_code=code, now=at[2])
    made.login.refresh_from_db()
    assert made.login.interval_s == 15
    with pytest.raises(device_flow.TooFast):
        device_flow.redeem(device_code=code, now=at[3])


@pytest.mark.parametrize("code", ["", "kvd_x", "kvd_000000000000_" + "A" * 49])
def test_every_wrong_device_code_looks_alike(cast, code):
    answer = poll(code)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


def test_a_right_id_with_a_wrong_secret_looks_like_no_id(cast):
    made = begun(cast.now)
    public = made.login.public_id
    from keyvault.crypto import tokens as codes

    body = f"kvd_{public}_" + "A" * 43
    with pytest.raises(BadToken):
        device_flow.redeem(device_code=body + codes._checksum(body), now=cast.now)


def test_guessing_codes_ends_in_the_lockout_of_sign_in(cast, client_for):
    browser = client_for(cast.alice)
    for _ in range(5):
        assert browser.post(reverse("device"), {"user_code": "BBBB-BBBB"}).status_code == 422

    said = start().json()
    page = browser.post(reverse("device"), {"user_code": said["user_code"]})

    assert "Too many tries" in page.content.decode()
    with pytest.raises(lockout.LockedOut):
        device_flow.find(
            code=said["user_code"], user=cast.alice, ip="192.0.2.1", now=timezone.now()
        )


def test_one_address_cannot_have_many_sign_ins_under_way(cast):
    for _ in range(device_flow.MOST_OPEN):
        assert start().status_code == 200

    refused = start()

    assert refused.status_code == 429
    assert refused["Retry-After"] == "60"
    assert start(REMOTE_ADDR="192.0.2.9").status_code == 200


@pytest.mark.parametrize(
    ("mine", "neighbour", "others"),
    [
        ("2001:db8:0:1::5", "2001:DB8:0:1:ffff::6", "2001:db8:0:2::5"),
        ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
        ("::ffff:192.0.2.7", "192.0.2.7", "::ffff:192.0.2.8"),
        ("", "", "192.0.2.8"),
    ],
)
def test_one_subscriber_is_counted_as_one(cast, mine, neighbour, others):
    for _ in range(device_flow.MOST_OPEN):
        begun(cast.now, mine)

    with pytest.raises(device_flow.TooMany):
        begun(cast.now, neighbour)
    assert begun(cast.now, others).login.pk


def test_the_page_shows_an_address_as_people_know_it(cast, client_for):
    made = begun(cast.now, "2001:db8:0:1::5")

    page = client_for(cast.alice).post(reverse("device"), {"user_code": made.user_code})

    assert made.login.address == "2001:0db8:0000:0001:0000:0000:0000:0005"
    assert "<code>2001:db8:0:1::5</code>" in page.content.decode()


def test_when_many_are_under_way_each_source_still_gets_one(cast, monkeypatch):
    monkeypatch.setattr(device_flow, "MOST_OPEN_OF_ALL", 4)
    for n in range(4):
        begun(cast.now, f"2001:db8:0:{n:x}::1")

    assert begun(cast.now, "192.0.2.7").login.pk
    for address in ("192.0.2.7", "2001:db8:0:3::2"):
        with pytest.raises(device_flow.TooMany):
            begun(cast.now, address)
    assert begun(cast.now + device_flow.LIFETIME, "192.0.2.7").login.pk


@pytest.mark.django_db(transaction=True)
def test_of_many_that_begin_at_once_no_more_are_made_than_one_source_may_have(monkeypatch):
    monkeypatch.setattr(device_flow, "MOST_OPEN", 3)
    barrier, results = threading.Barrier(8), []

    def begin():
        barrier.wait()
        try:
            begun(timezone.now())
            results.append("begun")
        except device_flow.TooMany:
            results.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == ["begun"] * 3 + ["refused"] * 5
    assert DeviceLogin.objects.count() == 3


def test_what_lapsed_a_day_ago_is_forgotten(cast):
    old = begun(cast.now - timedelta(days=2))

    begun(cast.now)

    assert not DeviceLogin.objects.filter(pk=old.login.pk).exists()


def test_a_person_who_was_deactivated_meanwhile_gets_no_token(cast):
    made = allowed(cast)
    type(cast.alice).objects.filter(pk=cast.alice.pk).update(is_active=False)

    answer = poll(made.device_code.reveal().decode())

    assert answer.json()["error"] == "invalid_grant"
    assert not AccessToken.objects.exists()


def test_a_person_with_too_many_live_tokens_is_told_and_may_redeem_later(cast, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_LIVE", 1)
    first, second = (allowed(cast).device_code.reveal().decode() for _ in range(2))
    given = poll(first).json()["access_token"]

    refused = poll(second)
    assert (refused.status_code, refused.json()["error"]) == (429, "temporarily_unavailable")
    assert Denial.objects.get(gate="token: too many live").actor_label == "Alice"

    issuing.revoke(text=given, now=cast.now)
    assert poll(second).status_code == 200


def test_the_page_takes_a_session_and_the_api_ignores_one(cast, client_for):
    assert Client().get(reverse("device")).status_code == 302
    assert Client().post(reverse("device"), {"user_code": "x"}).status_code == 403
    half = Client()
    half.post(reverse("login"), {"username": "alice", "password": people.PASSWORD})
    assert half.post(reverse("device-decide"), {"user_code": "x"}).status_code == 403


def test_a_name_that_steers_is_shown_as_text(cast, client_for):
    made = device_flow.begin(
        client_name="<b>\x1b[2Jroot\u202e</b>" + "x" * 200, ip="192.0.2.7", now=cast.now
    )

    page = client_for(cast.alice).post(reverse("device"), {"user_code": made.user_code})

    assert len(made.login.client_name) == 80
    assert "\x1b" not in made.login.client_name
    assert "<b>" not in page.content.decode()


def test_signing_out_everywhere_ends_the_command_line_too(cast, client_for):
    code = allowed(cast).device_code.reveal().decode()
    got = poll(code).json()["access_token"]
    assert tokens.authenticate(got, now=timezone.now())

    client_for(cast.alice).post(reverse("account-sign-out"))

    with pytest.raises(BadToken):
        tokens.authenticate(got, now=timezone.now())


def test_a_new_password_ends_the_command_line_too(cast, totp):
    code = allowed(cast).device_code.reveal().decode()
    got = poll(code).json()["access_token"]

    own_account.change_password(
        user=cast.alice,
        current=people.PASSWORD,
        password="another battery, another staple",
        code=totp(cast.alice),
        ip="192.0.2.1",
        now=timezone.now(),
    )

    with pytest.raises(BadToken):
        tokens.authenticate(got, now=timezone.now())


def test_what_was_allowed_before_signing_out_everywhere_brings_no_token(cast, client_for, totp):
    said = start().json()
    confirm(client_for(cast.alice), said["user_code"], cast.alice, totp)

    client_for(cast.alice).post(reverse("account-sign-out"))
    answers = [poll(said["device_code"]) for _ in range(2)]

    assert [answer.json()["error"] for answer in answers] == ["expired_token"] * 2
    assert not AccessToken.objects.exists()


def test_what_was_allowed_before_epochs_were_kept_brings_no_token(cast):
    made = allowed(cast)
    DeviceLogin.objects.update(epoch=None)

    with pytest.raises(device_flow.Lapsed):
        device_flow.redeem(device_code=made.device_code.reveal().decode(), now=cast.now)


@pytest.mark.django_db(transaction=True)
def test_a_sign_out_everywhere_that_is_under_way_ends_what_is_redeemed_meanwhile(cast):
    made, now = allowed(cast, timezone.now()), timezone.now()
    code = made.device_code.reveal().decode()

    with transaction.atomic():
        accounts.end_sessions(user=cast.alice, now=now, actor=people.HOST)
        racer = races.Racer(lambda: device_flow.redeem(device_code=code, now=now))
        races.await_somebody_waiting()
    with pytest.raises(device_flow.Lapsed):
        racer.finish()

    assert not AccessToken.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_that_redeem_at_once_one_gets_a_token(cast):
    made = allowed(cast, timezone.now())
    code, barrier, results = made.device_code.reveal().decode(), threading.Barrier(8), []

    def redeem():
        barrier.wait()
        try:
            device_flow.redeem(device_code=code, now=timezone.now())
            results.append("token")
        except device_flow.Lapsed:
            results.append("lapsed")
        finally:
            connection.close()

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == ["lapsed"] * 7 + ["token"]
    assert AccessToken.objects.count() == 1
