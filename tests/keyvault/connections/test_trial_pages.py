"""Test runs on the page of their Connection, the form that asks for one, and who may."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import transaction

from approvals.models import Request
from approvals.ports import NotVisible
from keyvault.audit.models import Event
from keyvault.connections import trial_work, trials, trying
from keyvault.connections.models import Connection, Trial
from keyvault.findings.models import Finding
from keyvault.providers import base
from keyvault.providers.base import Capabilities, Field, Recovery, Shape
from keyvault.web import live
from tests.keyvault.actions import rules
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db(transaction=True)
PAGE, FORM = "/connections/orders/", "/connections/orders/try/"


class Named(fakes.Fake):
    """A provider whose form has settings, one of which it fills in."""

    options_schema = (
        Field("login", "Login name", required=False),
        Field("role", "Owner role"),
    )

    def propose(self, config, name):  # noqa: ARG002 - the protocol's own signature.
        return {"login": name}


class Slots(Named):
    """One whose keys have accounts of their own, which stay."""

    def capabilities(self, ctx):  # noqa: ARG002 - as above.
        return Capabilities(Shape.SLOTS, Recovery.CLIENT)

    def foresee(self, ctx):
        if ctx.options["role"] == "postgres":
            raise base.Misconfigured("postgres has rights over the server.")
        return (ctx.options["login"] + "_a",)


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(trial_work, "PATIENCE_S", 0.0)


@pytest.fixture
def fake(_registry):
    return fakes.install(Named())


@pytest.fixture
def frank(cast, client_for, fake, now):
    rules.DEFAULTS.put(now)
    return client_for(cast.frank)


@pytest.fixture
def trial(where, now):
    with transaction.atomic():
        return trials.begin(
            connection_id=where.pk,
            request_id=uuid4(),
            started_by="Frank <b>Adeyemi</b>",
            options={"role": "reporting"},
            actor=WORKER,
            now=now,
        )


@pytest.fixture
def work(trial, now):
    def call(*, is_last=False, **more):
        run = Claims(now, trial.request_id).claim(**more)
        run.is_last = is_last
        trying.work_on(trials.of_request(trial.request_id), run)

    return call


def page(client):
    return client.get(PAGE).content.decode()


def test_before_the_first_one_the_page_says_what_it_is_for(frank, where):
    text = page(frank)

    assert "It was not tried yet" in text
    assert f'href="{FORM}"' in text


def test_one_that_passed_shows_its_steps_and_no_value(frank, work, fake):
    work()

    text = page(frank)

    assert "Passed" in text
    assert "It is refused" in text
    assert "&lt;b&gt;Adeyemi" in text
    assert not [word for word in fake.values.values() if word.decode() in text]
    assert "admin-canary" not in text


def test_an_open_one_is_followed_and_cannot_be_begun_again(frank, work, where):
    with pytest.raises(fakes.Crash):
        work(crash_at="try:create")

    text = page(frank)

    assert "A test run is under way" in text
    assert "Next: It works." in text
    assert f'data-live="trials:{where.slug}"' in text
    assert FORM not in text
    answer = frank.get(FORM, follow=True)
    assert "under way already" in answer.content.decode()


def test_one_that_failed_says_why(frank, work, fake):
    fake.fail("create", base.Denied("<b>The right</b> is missing."))
    work()

    text = page(frank)

    assert "Failed" in text
    assert "&lt;b&gt;The right&lt;/b&gt; is missing." in text
    assert "left something behind" not in text


def test_what_was_left_behind_is_shown_until_it_has_been_seen_to(frank, work, fake, now):
    fake.fail("revoke", *[base.Ambiguous("Away.")] * 4)
    work(is_last=True)

    assert "It may have left something behind" in page(frank)

    Finding.objects.update(closed_at=now, closed_by="Inventory")
    text = page(frank)
    assert "It may have left something behind" not in text
    assert "has been seen to" in text


def test_the_form_asks_with_what_the_provider_proposes(frank, where):
    text = frank.get(FORM).content.decode()
    assert 'value="keyvault-test"' in text
    assert "The provider&#x27;s own check" in text

    answer = frank.post(FORM, {"option_role": "reporting", "reason": "Before the first."})

    request = Request.objects.get()
    assert answer.status_code == 302
    assert answer.url.endswith(f"/approvals/{request.pk}/")
    assert request.kind == "connection.try"
    assert request.payload["options"] == {"login": "keyvault-test", "role": "reporting"}


def test_the_settings_of_the_last_one_fill_the_form(frank, work):
    work()

    assert 'value="reporting"' in frank.get(FORM).content.decode()


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"option_role": "reporting", "reason": ""}, "This field is required"),
        ({"option_role": "", "reason": "x"}, "This field is required"),
    ],
)
def test_without_what_is_needed_nothing_is_asked(frank, where, form, sentence):
    answer = frank.post(FORM, form)

    assert answer.status_code == 422
    assert sentence in answer.content.decode()
    assert not Request.objects.exists()


def test_what_the_provider_refuses_is_shown_with_what_was_typed(frank, where):
    fakes.install(Slots())

    answer = frank.post(FORM, {"option_role": "postgres", "reason": "x"})

    assert answer.status_code == 422
    assert "postgres has rights over the server." in answer.content.decode()
    assert 'value="postgres"' in answer.content.decode()


def test_a_provider_without_settings_asks_for_the_reason_alone(frank, where):
    fakes.install(fakes.Fake())

    assert "What is made" not in frank.get(FORM).content.decode()
    assert frank.post(FORM, {"reason": "x"}).status_code == 302


def test_where_nothing_can_be_tried_the_page_says_why(frank, where):
    Connection.objects.update(provider=fakes.install(fakes.Paste()).kind)

    text = page(frank)

    assert "A person makes each credential here" in text
    assert FORM not in text
    assert frank.get(FORM).status_code == 302


def test_a_destination_has_no_test_run(frank, where):
    Connection.objects.update(provider="openbao", config={})

    assert "Test run" not in page(frank)


@pytest.mark.parametrize("method", ["get", "post"])
def test_only_administrators_ask(cast, client_for, where, method):
    for name in ("alice", "bob", "dave", "erin", "mallory"):
        answer = getattr(client_for(getattr(cast, name)), method)(FORM)
        assert answer.status_code == 403, name
    assert not Request.objects.exists()
    assert not Event.objects.filter(event="secret.opened").exists()


def test_nobody_asks_without_a_session(client, where):
    assert client.get(FORM).status_code == 302
    assert client.post(FORM, {"reason": "x"}).status_code in {302, 403}
    assert not Request.objects.exists()


def test_an_auditor_sees_it_and_no_button(cast, client_for, work):
    work()

    text = page(client_for(cast.dave))

    assert "Passed" in text
    assert FORM not in text


def test_its_topic_moves_with_each_step_for_those_who_see_the_page(cast, work, where, now):
    def version(person):
        return live.version(person, "trials:orders", now=now)

    before = version(cast.dave)
    with pytest.raises(fakes.Crash):
        work(crash_at="try:create")

    assert version(cast.dave) != before
    assert version(cast.dave) == version(cast.frank)
    for person, topic in ((cast.alice, "trials:orders"), (cast.frank, "trials:none")):
        with pytest.raises(NotVisible):
            live.version(person, topic, now=now)


def test_slots_that_are_left_are_named_to_approvers(frank, where):
    fakes.install(Slots())

    frank.post(FORM, {"option_role": "reporting", "reason": "x"})

    assert "keyvault-test_a is left there" in str(Request.objects.get().plan["breaks"])
    assert not Trial.objects.exists()
