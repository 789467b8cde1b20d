import logging
from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test import Client, RequestFactory

from keyvault.audit import context
from keyvault.web import errors

PAGES = {
    "bad_request": (errors.bad_request, 400, "not one of ours"),
    "forbidden": (errors.forbidden, 403, "You cannot do this"),
    "not_found": (errors.not_found, 404, "nothing here for you"),
    "conflict": (errors.conflict, 409, "changed since you opened it"),
    "too_many": (lambda r: errors.too_many(r, retry_after=timedelta(minutes=5)), 429, "5 min"),
    "broken": (errors.broken, 500, "broke on our side"),
    "sealed": (errors.sealed, 503, "vault is sealed"),
    "unrecorded": (errors.unrecorded, 503, "cannot be written"),
    "unavailable": (errors.unavailable, 503, "database does not answer"),
    "not_set_up": (errors.not_set_up, 503, "not set up yet"),
    "csrf": (lambda r: errors.csrf_failure(r, "no token"), 403, "no longer belongs"),
}


@pytest.fixture
def request_():
    return RequestFactory().get("/keys/alpha/")


@pytest.mark.parametrize("name", PAGES)
def test_an_error_page_says_what_happened_and_carries_the_request_id(request_, name):
    answer, status, words = PAGES[name]

    with context.origin(context.Origin(correlation_id="0123abcd")):
        response = answer(request_)

    text = response.content.decode()
    assert response.status_code == status
    assert words in text
    assert "0123abcd" in text
    assert "<title>Problem: " in text
    assert response["Cache-Control"] == "no-store"


def test_a_refusal_names_the_missing_right(request_):
    response = errors.forbidden(request_, missing="Only auditors read the audit log.")

    assert "Only auditors read the audit log." in response.content.decode()


def test_waiting_is_said_to_machines_too(request_):
    assert errors.too_many(request_, retry_after=timedelta(seconds=17))["Retry-After"] == "17"


def test_a_conflict_shows_the_sentence_of_what_changed(request_):
    response = errors.conflict(request_, sentence="Bob approved while you were reading.")

    assert "Bob approved while you were reading." in response.content.decode()


def test_a_fault_is_answered_even_when_its_page_is_broken(request_, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise LookupError("no such icon")

    monkeypatch.setattr(errors, "render_to_string", fail)
    with caplog.at_level(logging.ERROR):
        response = errors.broken(request_)

    assert response.status_code == 500
    assert b"Something broke on our side" in response.content
    assert "page_failed" in caplog.text


def _without(table):
    """Have every statement that names a table fail like one on a server that is gone."""

    def refuse(execute, sql, params, many, context):
        if table in sql:
            raise OperationalError("the server closed the connection unexpectedly")
        return execute(sql, params, many, context)

    return connection.execute_wrapper(refuse)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("address", "table"),
    [
        ("/keys/", ""),
        ("/keys/", "keyvault_installation"),
        ("/keys/", "keyvault_key"),
        ("/no/such/page/", ""),
        ("/login/", ""),
    ],
)
@pytest.mark.parametrize("is_signed_in", [True, False])
def test_a_database_that_is_away_is_no_fault_of_ours(
    cast, client_for, address, table, is_signed_in
):
    browser = client_for(cast.alice) if is_signed_in else Client()

    with _without(table):
        answer = browser.get(address)

    if table == "keyvault_key" and not is_signed_in:
        assert answer.status_code == 302
    else:
        assert (answer.status_code, answer["Retry-After"]) == (503, "5")
        assert "database does not answer" in answer.content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("address", ["/api/v1/keys", "/api/v1/no-such-thing"])
def test_a_program_is_told_to_come_back_while_the_database_is_away(cast, address):
    with _without(""):
        answer = Client().get(address, headers={"Authorization": "Bearer kvt_x"})

    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json()["type"].endswith("unavailable")
