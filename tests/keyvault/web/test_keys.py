"""The pages of keys, through HTTP: who gets what, and what bad input gets."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from approvals.models import Request
from keyvault.inventory.models import Key
from keyvault.providers.base import Field
from keyvault.vault import selectors as versions
from tests import cast as people
from tests.keyvault.actions import conftest as actions

pytestmark = pytest.mark.django_db
_registry, fake, house = actions._registry, actions.fake, actions.house

PEOPLE = ("alice", "bob", "carol", "dave", "erin", "frank", "mallory")
SEES = {"alice", "carol", "dave", "frank"}
MAY = {
    "": SEES,
    "versions/": SEES,
    "access/": SEES,
    "history/": SEES,
    "revoke/": {"alice", "frank"},
    "reveal/": {"alice"},
    "versions/1/reveal/": {"alice"},
}


def client(person) -> Client:
    return people.sign_in(Client(), person)


def form(**changes) -> dict[str, str]:
    is_prod = changes.get("environment") == "prod"
    return {
        "connection": actions.EVERYWHERE if is_prod else "orders",
        "name": "ledger-reader",
        "title": "Ledger reader",
        "team": "payments",
        "backup_owner": "",
        "environment": "dev",
        "allowed_hosts": "db.example.com",
        "volume_per_day": "1000",
        "delivery_mode": "reveal",
        "lifetime_days": "90",
        "cadence_days": "30",
        "purpose": "Reads the ledger for the month's close.",
        "ticket": "",
        "labels": "",
        "send": "1",
    } | changes


@pytest.mark.parametrize("part", MAY)
def test_r31_each_page_of_a_key_opens_for_those_who_may_and_is_missing_for_the_rest(house, part):
    house.create()

    for name in PEOPLE:
        browser = client(getattr(house.cast, name))
        found = browser.get(f"/keys/ledger-reader/{part}")
        missing = browser.get(f"/keys/no-such-key-1/{part}")
        assert found.status_code == (200 if name in MAY[part] else 404), name
        assert missing.status_code == 404
        if name not in MAY[part]:
            strip = (b"ledger-reader", b""), (b"no-such-key-1", b"")
            assert clean(found, *strip) == clean(missing, *strip)


def clean(response, *replacements) -> bytes:
    text = response.content
    for old, new in replacements:
        text = text.replace(old, new)
    lines = [line for line in text.splitlines() if b"csrf" not in line]
    request_id = response["X-Request-Id"].encode()
    return b"\n".join(lines).replace(request_id, b"")


def test_r31_a_person_without_rights_cannot_post_either(house):
    house.create()

    for part in ("revoke/", "reveal/", "versions/1/reveal/"):
        answer = client(house.cast.mallory).post(f"/keys/ledger-reader/{part}", {"reason": "x"})
        assert answer.status_code == 404
    assert not Request.objects.exclude(kind="key.create").exists()


def test_the_first_use_says_what_a_key_is(house):
    page = client(house.cast.mallory).get("/keys/")

    assert "No key yet" in page.content.decode()


def test_the_list_shows_the_key_and_filters_that_match_nothing_say_so(house):
    house.create()
    browser = client(house.cast.alice)

    assert b"ledger-reader" in browser.get("/keys/").content
    empty = browser.get("/keys/?environment=prod&q=zzz")
    assert b"Nothing matches" in empty.content
    assert b"Remove the filter q" in empty.content


@pytest.mark.parametrize(
    "query", ["ordering=secret__value", "key__owner__password__startswith=a", "after=forged"]
)
def test_r33_a_filter_that_is_not_listed_is_a_bad_request(house, query):
    assert client(house.cast.alice).get(f"/keys/?{query}").status_code == 400


def test_the_form_starts_with_a_connection(house):
    page = client(house.cast.alice).get("/requests/new/")

    assert b"?connection=orders" in page.content


def test_the_form_shows_who_decides_before_anything_is_typed(house):
    page = client(house.cast.alice).get("/requests/new/?connection=orders")

    assert page.status_code == 200
    assert page.context["preview"].deciders.policy == "Keys elsewhere"


def test_sending_the_form_leads_to_the_request(house):
    answer = client(house.cast.alice).post("/requests/new/", form())

    request = Request.objects.get()
    assert answer.status_code == 302
    assert answer["Location"] == reverse("request", args=[request.pk])
    assert request.plan["target"]["label"] == "ledger-reader"


def test_r39_fields_that_the_form_does_not_have_change_nothing(house):
    extra = {
        "owner": str(house.cast.bob.pk),
        "owner_id": str(house.cast.bob.pk),
        "state": "live",
        "approved_by": "bob",
        "current_version": "1",
        "released_at": "2026-01-01",
        "request_id": "x",
    }

    client(house.cast.alice).post("/requests/new/", form(**extra))

    key = Key.objects.get()
    assert (key.owner, key.state, key.released_at) == (house.cast.alice, "requested", None)


def test_a_fixed_day_is_asked_for_signed_and_shown(house):
    browser = client(house.cast.alice)
    page = browser.get("/requests/new/?connection=orders").content.decode()
    assert 'type="time"' in page
    assert ">Last day<" in page

    browser.post("/requests/new/", form(calendar_day="mon", calendar_time="09:30"))

    request = Request.objects.get()
    said = "at least every 30 days, on a Monday at 09:30 UTC"
    assert said in [change["then"] for change in request.plan["changes"]]
    again = browser.get(f"/requests/new/?again={request.pk}").content.decode()
    assert '<option value="mon" selected>' in again
    assert 'value="09:30"' in again
    assert said in browser.get("/keys/ledger-reader/").content.decode()


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"calendar_day": "mon"}, "calendar_time", "Say the time, as in 09:00."),
        ({"calendar_day": "mon", "calendar_time": "nine"}, "calendar_time", "Enter a valid time."),
        ({"calendar_day": "29", "calendar_time": "09:00"}, "calendar_day", "Select a valid choice"),
        (
            {"calendar_day": "15", "calendar_time": "09:00"},
            "cadence_days",
            "so a value has to last at least 31 days",
        ),
    ],
)
def test_a_fixed_day_that_cannot_be_says_the_mend_at_its_field(house, changes, field, sentence):
    page = client(house.cast.alice).post("/requests/new/", form(**changes))

    assert page.status_code == 422
    assert sentence in " ".join(page.context["form"].errors[field])
    assert not Request.objects.exists()


def test_a_form_sent_twice_gives_the_first_result(house):
    browser = client(house.cast.alice)
    page = browser.get("/requests/new/?connection=orders")
    filled = form(draft=page.context["form"]["draft"].value())

    first, second = (browser.post("/requests/new/", filled) for _ in range(2))

    assert first["Location"] == second["Location"]
    assert Key.objects.count() == 1


def test_a_wrong_field_keeps_what_was_typed_and_says_the_mend(house):
    page = client(house.cast.alice).post("/requests/new/", form(name="Bad Name!", purpose="Typed."))
    text = page.content.decode()

    assert page.status_code == 422
    assert "Use 3 to 48 characters" in text
    assert 'href="#id_name"' in text
    assert "Typed." in text


def test_a_taken_name_says_so(house):
    house.ask()

    page = client(house.cast.alice).post("/requests/new/", form())

    assert page.status_code == 422
    assert "The name ledger-reader is taken" in page.content.decode()


def test_a_conflict_with_policy_offers_the_nearest_allowed_value(house):
    browser = client(house.cast.alice)
    page = browser.post("/requests/new/", form(environment="prod", lifetime_days="400"))
    text = page.content.decode()
    assert page.status_code == 422
    assert "A key in prod lives at most 180 days." in text
    assert 'value="lifetime_days=180"' in text

    mended = form(environment="prod", lifetime_days="400", set="lifetime_days=180")
    mended.pop("send")
    page = browser.post("/requests/new/", mended)

    assert page.status_code == 200
    assert page.context["form"]["lifetime_days"].value() == "180"


def test_r39_the_set_button_sets_only_what_it_may(house):
    data = form(set="team=security")
    data.pop("send")
    page = client(house.cast.alice).post("/requests/new/", data)

    assert page.context["form"]["team"].value() == "payments"


def test_the_preview_needs_no_script(house):
    data = form(environment="prod", preview="1")
    data.pop("send")
    page = client(house.cast.alice).post("/requests/new/", data)

    assert page.context["preview"].deciders.policy == "Keys in protected environments"
    assert not Request.objects.exists()


def test_the_preview_fragment_says_the_same(house):
    data = form(environment="prod")
    part = client(house.cast.alice).post("/requests/new/preview/", data)

    assert part.status_code == 200
    assert "Keys in protected environments" in part.content.decode()
    assert "<html" not in part.content.decode()


def test_editing_prefills_and_makes_a_new_revision(house):
    browser, request = client(house.cast.alice), house.ask(environment="prod")
    house.say(house.cast.bob, request)
    address = f"/requests/{request.pk}/edit/"
    assert browser.get(address).context["form"]["lifetime_days"].value() == 90

    answer = browser.post(address, form(environment="prod", lifetime_days="30"))

    fresh = Request.objects.get()
    assert answer.status_code == 302
    assert (fresh.revision, fresh.state) == (2, "pending")


def test_editing_a_decided_request_shows_how_it_stands(house):
    request = house.ask()
    house.say(house.cast.bob, request)

    answer = client(house.cast.alice).post(f"/requests/{request.pk}/edit/", form())

    assert answer.status_code == 409


def test_nobody_else_edits(house):
    request = house.ask()

    for name in ("bob", "dave", "mallory"):
        browser = client(getattr(house.cast, name))
        assert browser.get(f"/requests/{request.pk}/edit/").status_code == 404


def test_asking_again_copies_all_but_the_reason(house):
    request = house.ask()

    page = client(house.cast.alice).get(f"/requests/new/?again={request.pk}")

    assert page.context["form"]["name"].value() == "ledger-reader"
    assert page.context["form"]["purpose"].value() == ""


def test_again_of_a_foreign_request_is_missing(house):
    request = house.ask()
    browser = client(house.cast.mallory)

    assert browser.get(f"/requests/new/?again={request.pk}").status_code == 404
    assert browser.get("/requests/new/?again=nonsense").status_code == 404


def test_r26_asking_to_revoke_takes_a_fresh_factor(house):
    house.create()
    browser = client(house.cast.alice)
    address = "/keys/ledger-reader/revoke/"
    assert b"What breaks" in browser.get(address).content

    asked = browser.post(address, {"reason": "Done.", "ticket": ""})
    assert b"otp_code" in asked.content
    assert not Request.objects.filter(kind="key.revoke").exists()
    code = people.totp_code(house.cast.alice)
    answer = browser.post(address, {"reason": "Done.", "ticket": "", "otp_code": code})

    request = Request.objects.get(kind="key.revoke")
    assert answer["Location"] == reverse("request", args=[request.pk])


def test_a_revocation_without_a_reason_keeps_the_plan_in_view(house):
    house.create()

    page = client(house.cast.alice).post("/keys/ledger-reader/revoke/", {"reason": ""})

    assert page.status_code == 422
    assert b"What breaks" in page.content


def value_of(house) -> str:
    version = versions.by_number(Key.objects.get().pk, 1)
    return house.fake.values[version.remote_id].decode()


def test_r8_the_value_is_shown_once_uncached_and_leaves_by_itself(house):
    key = house.create()
    house.permit(key)
    browser, address = client(house.cast.alice), "/keys/ledger-reader/versions/1/reveal/"
    value = value_of(house)
    door = browser.get(address)
    assert value.encode() not in door.content
    assert b"burns the only reveal" in door.content

    shown = browser.post(address, {"otp_code": people.totp_code(house.cast.alice)})

    text = shown.content.decode().replace("<span>", "").replace("</span>", "")
    assert value in text
    assert "no-store" in shown["Cache-Control"]
    assert shown["Refresh"] == "60; url=/keys/ledger-reader/"
    again = browser.get(address)
    assert value.encode() not in again.content
    assert b"Alice revealed this version" in again.content
    late = browser.post(address, {"otp_code": people.totp_code(house.cast.alice)})
    assert late.status_code == 409
    assert value not in late.content.decode().replace("<span>", "").replace("</span>", "")


def test_no_page_of_a_key_holds_its_value(house):
    house.create()
    browser = client(house.cast.alice)

    for part in MAY:
        page = browser.get(f"/keys/ledger-reader/{part}")
        assert value_of(house).encode() not in page.content


def test_asking_for_a_reveal_leads_to_its_request(house):
    house.create()

    answer = client(house.cast.alice).post("/keys/ledger-reader/reveal/", {"reason": "To paste."})

    request = Request.objects.get(kind="secret.reveal")
    assert answer["Location"] == reverse("request", args=[request.pk])


def test_the_history_is_that_of_the_ledger(house):
    house.create()

    page = client(house.cast.dave).get("/keys/ledger-reader/history/")

    text = page.content.decode()
    assert "asked for ledger-reader and reserved its name" in text
    assert "ledger-reader is live" in text


def test_r22_what_somebody_wrote_is_shown_inert(house):
    house.create(title="<script>alert(1)</script>\u202e", purpose="javascript:alert(1) <b>")

    for part in ("", "revoke/"):
        text = client(house.cast.alice).get(f"/keys/ledger-reader/{part}").content.decode()
        assert "<script>alert(1)" not in text
        assert "\u202e" not in text


def test_r35_an_odd_spelling_of_a_name_in_an_address_is_missing(house):
    house.create()
    browser = client(house.cast.alice)

    for name in ("LEDGER-READER", "ledger-reader%20", "ledger_reader"):
        assert browser.get(f"/keys/{name}/").status_code == 404


@pytest.mark.parametrize("path", ["keys/../people/", "keys/%2e%2e/people/", "keys//ledger-reader/"])
def test_r35_an_address_that_climbs_is_a_bad_request(house, path):
    assert client(house.cast.alice).get(f"/{path}").status_code == 400


def proposing(house, **found):
    """Let the provider at the house's Connection know settings, and propose some of them."""
    house.fake.options_schema = (
        Field("login", "Login name", required=False),
        Field("role", "Owner role"),
    )
    house.fake.propose = lambda _config, name: {"login": name.replace("-", "_"), **found}


def test_settings_left_empty_take_what_the_provider_proposes_and_the_plan_says_it(house):
    proposing(house, role="orders_owner")
    page = client(house.cast.alice).get("/requests/new/?connection=orders")
    assert 'value="orders_owner"' in page.content.decode()

    sent = client(house.cast.alice).post("/requests/new/", form(option_role="orders_owner"))

    plan = client(house.cast.bob).get(sent.url).content.decode()
    assert "ledger_reader" in plan
    assert "orders_owner" in plan
    payload = Request.objects.get().payload
    assert payload["declared"]["options"] == {"login": "ledger_reader", "role": "orders_owner"}


def test_a_needed_setting_that_nobody_proposes_must_be_typed(house):
    proposing(house)

    answer = client(house.cast.alice).post("/requests/new/", form())

    assert answer.status_code == 422
    assert "Owner role" in answer.content.decode()
    assert not Request.objects.exists()


def test_a_revision_under_another_name_takes_the_login_name_along(house):
    proposing(house, role="orders_owner")
    browser = client(house.cast.alice)
    sent = browser.post("/requests/new/", form(option_role="other_owner"))
    edit = reverse("request-edit", args=[Request.objects.get().pk])
    page = browser.get(edit).content.decode()
    assert 'value="other_owner"' in page
    assert 'value="ledger_reader"' not in page

    browser.post(edit, form(name="ledger-writer", option_role="other_owner"))

    declared = Request.objects.get().payload["declared"]
    assert declared["options"] == {"login": "ledger_writer", "role": "other_owner"}
    assert sent.status_code == 302


def test_both_ways_of_delivery_are_offered(house):
    page = client(house.cast.alice).get("/requests/new/?connection=orders").content.decode()

    assert "Its owner reads it once, after approval" in page
    assert "Agents and services fetch it by API" in page


@pytest.mark.parametrize("way", ["reveal", "pull"])
def test_the_way_of_delivery_that_was_chosen_is_asked_for(house, way):
    client(house.cast.alice).post("/requests/new/", form(delivery_mode=way))

    assert Request.objects.get().payload["declared"]["delivery_mode"] == way


def test_a_way_of_delivery_that_is_not_offered_is_refused(house):
    answer = client(house.cast.alice).post("/requests/new/", form(delivery_mode="push"))

    assert answer.status_code == 422
    assert not Request.objects.exists()
