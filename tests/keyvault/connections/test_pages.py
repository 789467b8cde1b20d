"""Connections in the browser: who may come, what is shown, what is never sent back."""

import pytest

from keyvault.accounts import selectors as people
from keyvault.buckets import Rate
from keyvault.connections import checks, selectors
from keyvault.connections.models import Connection
from keyvault.providers import base
from keyvault.vault.models import Sealed
from tests.keyvault.actions import rules
from tests.keyvault.connections.conftest import with_credential
from tests.keyvault.vault import rows
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db

CANARY = "typed-canary-77aa"


@pytest.fixture
def frank(cast, client_for, fake, now):
    rules.DEFAULTS.put(now)
    return client_for(cast.frank)


def _form(**more):
    return {
        "provider": "fake",
        "slug": "billing-db",
        "title": "Billing database",
        "config_host": "db.example.com",
        "config_user": "kv_admin",
        "credential_password": CANARY,
        "environment": "dev",
        "team": "",
        "allowed_hosts": "",
        "reason": "A new server.",
        "ticket": "",
    } | more


def test_only_those_who_need_it_see_connections(cast, client_for, fake, where):
    for name, status in [("frank", 200), ("dave", 200), ("erin", 200), ("alice", 403)]:
        person = client_for(getattr(cast, name))
        assert person.get("/connections/").status_code == status, name
        assert person.get("/connections/orders/").status_code == status, name


@pytest.mark.parametrize("path", ["new/", "orders/edit/"])
def test_only_administrators_open_the_form(cast, client_for, where, path):
    assert client_for(cast.frank).get(f"/connections/{path}").status_code == 200
    assert client_for(cast.dave).get(f"/connections/{path}").status_code == 403


def test_the_empty_list_says_what_a_connection_is(frank):
    page = frank.get("/connections/").content.decode()

    assert "No Connection yet" in page
    assert "/connections/new/" in page


def test_one_page_shows_where_it_leads_and_no_credential(frank, cast, where):
    page = frank.get("/connections/orders/").content.decode()

    assert "Where it leads" in page
    assert "admin-canary" not in page


@pytest.mark.parametrize(
    "kind",
    [
        "postgresql",
        "valkey",
        "mariadb",
        "rabbitmq",
        "aws_iam",
        "openai",
        "anthropic",
        "cloudflare",
        "http",
        "manual",
    ],
)
def test_the_form_is_drawn_from_what_each_provider_needs(frank, kind):
    page = frank.get(f"/connections/new/?provider={kind}").content.decode()

    for entry in selectors.config_schema(kind):
        assert f'name="config_{entry.name}"' in page
    for entry in selectors.credential_schema(kind):
        assert f'name="credential_{entry.name}"' in page
    assert ("Admin credential" in page) == bool(selectors.credential_schema(kind))


def test_without_a_provider_the_form_asks_for_one(frank):
    page = frank.get("/connections/new/?provider=nothing").content.decode()

    assert "/connections/new/?provider=postgresql" in page


def test_a_form_that_is_right_files_a_request(frank):
    answer = frank.post("/connections/new/", _form(send="1"))

    assert answer.status_code == 302
    assert answer["Location"].startswith("/approvals/")
    assert Sealed.objects.filter(subject_kind="connection_change").count() == 1
    assert not Connection.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slug": "Not OK"}, "id_slug"),
        ({"config_host": ""}, "id_config_host"),
        ({"allowed_hosts": "nonsense"}, "id_allowed_hosts"),
        ({"reason": ""}, "id_reason"),
    ],
)
def test_a_fault_keeps_what_was_typed_and_never_the_credential(frank, change, field):
    answer = frank.post("/connections/new/", _form(send="1", **change))

    page = answer.content.decode()
    assert answer.status_code == 422
    assert f'href="#{field}"' in page
    assert "Billing database" in page
    assert CANARY not in page
    assert not Sealed.objects.filter(subject_kind="connection_change").exists()


def test_check_first_shows_the_result_and_stores_nothing(frank, fake):
    fake.fail("check", base.Denied("The admin may not create roles."))

    answer = frank.post("/connections/new/", _form(check="1"))

    page = answer.content.decode()
    assert answer.status_code == 200
    assert "The admin may not create roles." in page
    assert CANARY not in page
    assert not Sealed.objects.filter(subject_kind="connection_change").exists()


def test_check_of_one_that_exists_is_noted_on_its_page(frank, fake, where):
    fake.fail("check", base.Transient("It does not answer."))

    page = frank.post("/connections/orders/check/", follow=True).content.decode()

    assert "It does not answer." in page
    assert selectors.get("orders").problems[0]["sentence"] == "It does not answer."


def test_who_checks_much_waits_a_minute_before_another_server_is_asked(
    frank, fake, where, monkeypatch
):
    monkeypatch.setattr(checks, "RATE", Rate(per_s=0.001, burst=2))
    frank.post("/connections/orders/check/")
    assert frank.post("/connections/new/", _form(check="1")).status_code == 200
    asked = fake.calls.count("check")

    refused = frank.post("/connections/new/", _form(check="1"))
    told = frank.post("/connections/orders/check/", follow=True)

    assert refused.status_code == 429
    for page in (refused.content.decode(), told.content.decode()):
        assert "Wait a minute, then try again." in page
        assert CANARY not in page
    assert 'value="db.example.com"' in refused.content.decode(), "what was typed stays"
    assert fake.calls.count("check") == asked == 2
    assert frank.post("/connections/new/", _form(send="1")).status_code == 302, "it asks no server"


def test_one_who_checks_much_keeps_nobody_else_waiting(frank, cast, fake, where, now, monkeypatch):
    monkeypatch.setattr(checks, "RATE", Rate(per_s=0.001, burst=1))
    assert frank.post("/connections/new/", _form(check="1")).status_code == 200
    assert frank.post("/connections/new/", _form(check="1")).status_code == 429

    for actor in (people.actor(cast.alice), WORKER, WORKER):
        assert checks.check(connection=where, actor=actor, now=now).is_ready
    with pytest.raises(checks.TooMany):
        checks.check(connection=where, actor=people.actor(cast.alice), now=now)


def test_the_name_and_provider_of_one_that_exists_cannot_be_changed(frank, where):
    frank.post("/connections/orders/edit/", _form(send="1", slug="stolen", provider="other"))

    assert selectors.get("orders").provider == "fake"
    assert not selectors.exists("stolen")


def test_a_long_hostile_title_is_shown_inert(frank, cast, fake, where):
    title = "<b>x</b>\u202e" + "w" * 70
    with_credential(rows.connection(cast, slug="odd", provider="fake"), cast.now)
    Connection.objects.filter(slug="odd").update(title=title)

    for path in ("/connections/", "/connections/odd/"):
        page = frank.get(path).content.decode()
        assert "<b>x</b>" not in page
