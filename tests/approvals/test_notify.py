"""Mail tells people that a page waits; it carries a link, no payload, and decides nothing."""

from __future__ import annotations

import pytest
from django.conf import settings as conf
from django.core import mail
from django.urls import reverse

from approvals import queue
from approvals.models import Job

pytestmark = pytest.mark.django_db


@pytest.fixture
def post(house, settings):
    """Return a function that sends what is due and returns the mails; mail is configured."""
    settings.APPROVALS_MAIL = True

    def send():
        mail.outbox.clear()
        for job in Job.objects.filter(kind="notify.request", state="ready"):
            queue.run(job.pk, worker="test", now=house.now)
        return list(mail.outbox)

    return send


def test_the_deciders_get_a_link_and_nothing_else(house, post):
    request = house.ask(reason="hunter2-reason")
    (message,) = post()
    assert sorted(message.bcc) == ["bob@example.com", "carol@example.com"]
    assert conf.PUBLIC_URL + reverse("request", args=[request.pk]) in message.body
    assert request.label in message.subject
    for secret in ("hunter2", "green", "north", request.plan_digest):
        assert secret not in message.body + message.subject


def test_the_asker_hears_how_it_ended(house, post):
    request = house.ask()
    post()
    house.say(house.cast.bob, request, "reject")
    (message,) = post()
    assert message.bcc == ["alice@example.com"]
    assert "rejected" in message.subject


def test_without_a_mail_server_nothing_is_sent_and_no_job_is_held(house, post, settings):
    settings.APPROVALS_MAIL = False
    house.ask()
    assert post() == []
    assert queue.held() == []


def test_a_mail_server_that_is_down_delays_the_mail_and_nothing_else(house, post, monkeypatch):
    def refuse(self):
        raise ConnectionRefusedError

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)
    request = house.ask()
    post()
    job = house.job(request, kind="notify.request")
    assert (job.state, job.code) == ("ready", "mail")
    assert house.say(house.cast.bob, request).pk
