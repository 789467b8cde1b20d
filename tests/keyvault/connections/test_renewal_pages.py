"""The admin credential on the page of its Connection, and what people do there."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from approvals.models import Request
from keyvault.connections import renewals
from keyvault.connections.models import Connection, Renewal
from keyvault.connections.services import Draft
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db


@pytest.fixture
def fake(_registry):
    return fakes.install(fakes.Renews())


@pytest.fixture
def frank(cast, client_for, fake, now):
    rules.DEFAULTS.put(now)
    return client_for(cast.frank)


@pytest.fixture
def held(where, now):
    with transaction.atomic():
        made = renewals.begin(
            connection_id=where.pk,
            request_id=uuid4(),
            started_by="Frank",
            actor=WORKER,
            now=now,
        )
        renewals.hold(made, "The right ACL is missing.", now=now)
    return made


def page(client):
    return client.get("/connections/orders/").content.decode()


def test_the_page_shows_age_cadence_and_history(frank, where, held, now):
    Connection.objects.update(credential_at=now - timedelta(days=3), renew_days=30)

    text = page(frank)

    assert "every 30 days" in text
    assert "3 days old" in text
    assert "Credential 2" in text
    assert "The right ACL is missing." in text
    assert "admin-canary" not in text


def test_renew_now_asks_for_approval(frank, where):
    assert "/connections/orders/renew/" in page(frank)
    form = frank.get("/connections/orders/renew/").content.decode()
    assert "Renew the admin credential of orders" in form

    answer = frank.post("/connections/orders/renew/", {"reason": "It is old.", "ticket": ""})

    assert answer.status_code == 302
    assert Request.objects.get().kind == "connection.renew"
    assert not Renewal.objects.exists()


def test_without_a_reason_nothing_is_asked(frank, where):
    answer = frank.post("/connections/orders/renew/", {"reason": "", "ticket": ""})

    assert answer.status_code == 422
    assert not Request.objects.exists()


def test_a_held_one_is_tried_again_from_the_page(frank, where, held):
    answer = frank.post("/connections/orders/renewal/again/")

    assert answer.status_code == 302
    assert Renewal.objects.get().held_at is None
    assert "It is being renewed" in page(frank)


def test_a_held_one_that_changed_nothing_is_stopped_from_the_page(frank, where, held):
    frank.post("/connections/orders/renewal/stop/")

    assert Renewal.objects.get().state == "failed"
    assert "Without effect" in page(frank)
    for again in ("stop", "again"):
        answer = frank.post(f"/connections/orders/renewal/{again}/", follow=True)
        assert "no renewal to decide about any more" in answer.content.decode()


def test_what_may_have_been_called_offers_no_stop(frank, where, held):
    Renewal.objects.update(state="calling", calls=1)

    text = page(frank)
    assert "renewal/stop" not in text
    assert "asks the provider which of the two" in text
    answer = frank.post("/connections/orders/renewal/stop/", follow=True)
    assert "A call may have taken effect" in answer.content.decode()


@pytest.mark.parametrize("path", ["renew/", "renewal/again/", "renewal/stop/"])
def test_only_administrators_act(cast, client_for, where, held, path):
    for name in ("dave", "erin", "alice"):
        answer = client_for(getattr(cast, name)).post(f"/connections/orders/{path}")
        assert answer.status_code == 403, name
    assert Renewal.objects.get().held_at is not None


def test_an_auditor_sees_it_and_no_buttons(cast, client_for, where, held):
    text = page(client_for(cast.dave))

    assert "waits for a person" in text
    assert "renewal/again" not in text


def test_a_provider_that_cannot_says_that_a_person_does_it(frank, where):
    fakes.install(fakes.Fake())

    text = page(frank)
    assert "This provider cannot renew it" in text
    assert "/connections/orders/renew/" not in text
    assert frank.get("/connections/orders/renew/").status_code == 302
    assert "renew_days" not in frank.get("/connections/orders/edit/").content.decode()


def test_a_cadence_is_a_setting_that_is_approved(frank, where):
    form = {
        "provider": "fake",
        "title": "Orders database",
        "config_host": where.config.get("host", ""),
        "config_user": where.config.get("user", ""),
        "renew_days": "90",
        "reason": "It should be young.",
        "send": "1",
    }
    Connection.objects.update(config={"host": "db.example.com"})
    answer = frank.post(
        "/connections/orders/edit/",
        form | {"config_host": "db.example.com", "config_user": ""},
    )

    assert answer.status_code == 302, answer.content.decode()
    request = Request.objects.get()
    rows = {row["field"]: (row["now"], row["then"]) for row in request.plan["changes"]}
    assert rows["Admin credential is renewed"] == ("By hand", "Every 90 days")
    assert request.payload["draft"]["renew_days"] == 90
    assert Connection.objects.get().renew_days is None


def test_a_request_of_before_is_read_as_it_was_signed():
    stored = Draft(slug="a", title="A", provider="fake").to_json()

    assert "renew_days" not in stored
    assert Draft.from_json(stored).renew_days == 0
