"""Sign-in in two steps, its lockout, and where it lets nobody be led."""

import json
import time
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from keyvault.accounts import origin, services, sessions
from keyvault.accounts.devices import Lockout
from tests import cast as people

WIDE_ALICE = "".join(chr(ord(letter) + 0xFEE0) for letter in "alice")

pytestmark = pytest.mark.django_db


def password_step(client, username, password=people.PASSWORD, **extra):
    return client.post(reverse("login"), {"username": username, "password": password, **extra})


def code_step(client, code, **extra):
    return client.post(reverse("mfa"), {"code": code, **extra})


def test_password_then_code_opens_the_console(cast, totp):
    client = Client()
    assert password_step(client, "alice").headers["Location"].startswith(reverse("mfa"))
    response = code_step(client, totp(cast.alice))
    assert response.headers["Location"] == reverse("overview")
    assert client.get(reverse("account")).status_code == 200


def test_the_page_says_the_same_for_a_wrong_name_and_a_wrong_password(cast):
    wrong_name = password_step(Client(), "nobody", "x")
    wrong_password = password_step(Client(), "alice", "x")
    assert wrong_name.status_code == wrong_password.status_code == 422
    sentence = "That user name and password do not open an account."
    assert sentence in wrong_name.content.decode()
    assert sentence in wrong_password.content.decode()


def test_an_empty_form_is_answered_like_a_wrong_one(cast):
    client = Client()
    assert client.post(reverse("login"), {}).status_code == 422
    password_step(client, "alice")
    assert client.post(reverse("mfa"), {}).status_code == 422
    assert client.post(reverse("recovery"), {}).status_code == 422


def test_r25_half_a_session_opens_nothing(cast):
    client = Client()
    password_step(client, "frank")
    for method in ("get", "head", "options", "post", "put", "patch", "delete"):
        response = getattr(client, method)(reverse("people"))
        assert response.status_code == 403, method


def test_r25_a_visitor_is_sent_to_sign_in_and_writes_nothing(cast):
    client = Client()
    page = client.get(reverse("people"), {"q": "a b"})
    assert page.status_code == 302
    assert page.headers["Location"] == "/auth/login/?next=/people/%3Fq%3Da%2Bb"
    for method in ("post", "put", "patch", "delete", "options"):
        assert getattr(client, method)(reverse("people")).status_code == 403, method
    assert client.post("/people/", {}, HTTP_X_HTTP_METHOD_OVERRIDE="GET").status_code == 403


def test_the_session_has_a_new_key_after_each_step(cast, totp):
    client = Client()
    client.get(reverse("login"))
    password_step(client, "alice")
    half = client.session.session_key
    code_step(client, totp(cast.alice))
    assert client.session.session_key != half
    stale = Client()
    stale.cookies["keyvault"] = half
    assert stale.get(reverse("account")).status_code == 302


def test_a_stale_cookie_is_left_alone_so_that_other_tabs_stay_signed_in(cast):
    stale = Client()
    stale.cookies["keyvault"] = "x" * 32
    response = stale.get(reverse("account"))
    assert response.status_code == 302
    assert "keyvault" not in response.cookies


def test_signing_out_ends_the_session_and_takes_a_post(cast, client_for):
    client = client_for(cast.alice)
    assert client.get(reverse("logout")).status_code == 405
    response = client.post(reverse("logout"))
    assert response.headers["Location"] == reverse("login")
    assert response.cookies["keyvault"].value == ""
    assert client.get(reverse("account")).status_code == 302


@pytest.mark.parametrize("age", [timedelta(minutes=31), timedelta(hours=13)])
def test_a_session_ends_when_idle_or_old(cast, age):
    client = people.sign_in(Client(), cast.alice, now=timezone.now() - age)
    assert client.get(reverse("account")).status_code == 302


def test_a_busy_session_still_ends_after_twelve_hours(cast, client_for):
    client = client_for(cast.alice)
    session = client.session
    session[sessions.STARTED] = time.time() - 12 * 3600 - 1
    session.save()
    assert client.get(reverse("account")).status_code == 302


def test_the_poll_does_not_keep_a_session_alive(cast, client_for):
    client = client_for(cast.alice)
    session = client.session
    session[sessions.SEEN] = before = time.time() - 120
    session.save()
    client.get(reverse("live"))
    assert client.session[sessions.SEEN] == before
    client.get(reverse("account"))
    assert client.session[sessions.SEEN] > before


def test_r24_five_wrong_codes_lock_the_person_for_every_door(cast, totp):
    client = Client()
    good = totp(cast.alice)
    password_step(client, "alice")
    for _ in range(5):
        assert code_step(client, "000000").status_code == 422
    locked = code_step(client, good)
    assert locked.status_code == 429
    assert "Too many tries. You can try again in" in locked.content.decode()
    assert password_step(Client(), "alice").status_code == 429


def test_r24_a_right_password_clears_no_failed_codes(cast):
    client = Client()
    password_step(client, "alice")
    for _ in range(4):
        code_step(client, "000000")
    password_step(Client(), "alice")
    assert code_step(client, "000000").status_code == 422
    assert code_step(client, "000000").status_code == 429


def test_r28_spellings_of_a_name_share_one_count(cast):
    for spelling in ("alice", "ALICE", " Alice ", WIDE_ALICE, "alice\t"):
        assert password_step(Client(), spelling, "wrong").status_code == 422
    assert password_step(Client(), "alice").status_code == 429


def test_r24_failures_from_one_address_lock_it_for_all_names(cast):
    for number in range(30):
        password_step(Client(), f"nobody{number}", "wrong")
    assert password_step(Client(), "alice").status_code == 429


def test_r40_forwarded_headers_do_not_move_the_address(cast):
    for number in range(30):
        Client(HTTP_X_FORWARDED_FOR=f"203.0.113.{number}").post(
            reverse("login"), {"username": f"n{number}", "password": "wrong"}
        )
    assert password_step(Client(), "alice").status_code == 429


def test_r40_a_named_proxy_is_believed_for_the_last_hop_only(rf, settings):

    settings.TRUSTED_PROXIES = ["10.0.0.0/8"]
    headers = {"X-Forwarded-For": "198.51.100.9, 203.0.113.7, 10.0.0.2"}
    assert origin.address(rf.get("/", REMOTE_ADDR="10.0.0.1", headers=headers)) == "203.0.113.7"
    assert origin.address(rf.get("/", REMOTE_ADDR="192.0.2.1", headers=headers)) == "192.0.2.1"
    assert origin.address(rf.get("/", REMOTE_ADDR="10.0.0.1", headers={})) == "10.0.0.1"


def test_the_count_is_forgotten_after_an_hour_and_after_a_complete_sign_in(cast, totp):
    for _ in range(4):
        password_step(Client(), "alice", "wrong")
    client = Client()
    password_step(client, "alice")
    good = people.code(cast.alice)
    assert code_step(client, good).status_code == 302
    for _ in range(4):
        assert password_step(Client(), "alice", "wrong").status_code == 422
    Lockout.objects.update(last_failure_at=timezone.now() - timedelta(minutes=61))
    assert password_step(Client(), "alice", "wrong").status_code == 422
    assert password_step(Client(), "alice").status_code == 302


EVIL = [
    "//evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "javascript:alert(1)",
    "https://evil.example/",
    "http:evil.example",
    "/\t/evil.example",
    "\x00//evil.example",
    "evil.example",
    "%2F%2Fevil.example",
]


@pytest.mark.parametrize("where", EVIL)
def test_r46_next_stays_here(cast, totp, where):
    client = Client()
    password_step(client, "alice", next=where)
    response = code_step(client, totp(cast.alice), next=where)
    assert response.headers["Location"] == reverse("overview")


def test_next_is_kept_through_both_steps(cast, totp):
    client = Client()
    first = password_step(client, "alice", next="/people/?a=b")
    assert first.headers["Location"] == f"{reverse('mfa')}?next=%2Fpeople%2F%3Fa%3Db"
    response = code_step(client, totp(cast.alice), next="/people/?a=b")
    assert response.headers["Location"] == "/people/?a=b"


@pytest.mark.parametrize("name", ["login", "logout"])
def test_r45_sign_in_and_out_take_a_csrf_token(cast, name):
    client = Client(enforce_csrf_checks=True)
    people.sign_in(client, cast.alice)
    assert client.post(reverse(name), {"username": "alice"}).status_code == 403
    response = client.post(reverse(name), '{"username": "alice"}', content_type="text/plain")
    assert response.status_code == 403


def test_r47_every_page_stays_out_of_caches(cast, client_for):
    for response in (
        client_for(cast.alice).get(reverse("account")),
        Client().get(reverse("login")),
        Client().get("/no/such/page/"),
    ):
        assert response.headers["Cache-Control"] == "no-store"
        vary = {part.strip() for part in response.headers["Vary"].split(",")}
        assert {"Cookie", "Authorization"} <= vary
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


def test_r36_deactivation_ends_the_session_within_one_request(cast, client_for):

    client = client_for(cast.alice)
    assert client.get(reverse("account")).status_code == 200
    with transaction.atomic():
        services.deactivate(user=cast.alice, now=cast.now, actor=people.HOST)
    assert client.get(reverse("account")).status_code == 302
    assert password_step(Client(), "alice").status_code == 422


def test_the_request_id_is_on_every_answer(cast):
    response = Client().get("/no/such/page/")
    assert response.status_code == 404
    assert response.headers["X-Request-Id"] in response.content.decode()


def test_the_demo_lists_its_people_on_loopback_only(cast, settings, tmp_path):
    settings.IS_DEMO, settings.DATA_DIR = True, tmp_path
    (tmp_path / "demo.json").write_text(
        json.dumps({"people": [{"username": "alice", "password": people.PASSWORD}]})
    )
    page = Client().get(reverse("login")).content.decode()
    assert 'value="alice"' in page
    assert people.PASSWORD not in page
    far = Client(REMOTE_ADDR="192.0.2.1")
    assert 'value="alice"' not in far.get(reverse("login")).content.decode()
    assert far.post(reverse("login"), {"demo_person": "alice"}).status_code == 422
    near = Client().post(reverse("login"), {"demo_person": "alice"})
    assert near.headers["Location"].startswith(reverse("mfa"))
