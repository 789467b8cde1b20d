"""Pages that list cost as many queries for forty rows as for two."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from approvals import selectors
from approvals.models import Request
from approvals.ports import Subject
from keyvault.accounts import services as accounts
from keyvault.actions.change_connection import ask
from keyvault.connections.drafts import Draft
from keyvault.connections.models import Connection
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.inventory import grants
from tests.keyvault.actions import rules
from tests.keyvault.connections import conftest as connections
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db
_registry, recovery, fake = connections._registry, connections.recovery, connections.fake

FEW, MANY = 2, 40


def cost(client, address: str) -> int:
    client.get(address)  # What is read once and kept, such as content types, is no part of it.
    with CaptureQueriesContext(connection) as found:
        assert client.get(address).status_code == 200
    return len(found)


def connections_with_a_finding(cast, count: int) -> None:
    for number in range(Connection.objects.count(), count):
        row = builders.connection(cast, f"db-{number}")
        findings.open(
            kind=FindingKind.CONNECTION,
            subject=Subject("connection", str(row.pk), row.slug),
            sentence=f"Trouble {number}.",
            now=cast.now,
        )


def test_the_list_of_connections(cast, client_for, django_assert_num_queries):
    frank = client_for(cast.frank)
    connections_with_a_finding(cast, FEW)
    few = cost(frank, "/connections/")
    connections_with_a_finding(cast, MANY)

    with django_assert_num_queries(few):
        page = frank.get("/connections/")

    assert len(page.context["rows"]) == MANY
    assert all(row["findings"] for row in page.context["rows"])


@pytest.fixture
def asked(cast, fake, now):
    """Return a request of frank's to change a Connection."""
    rules.DEFAULTS.put(now)
    builders.connection(cast, "orders", provider="fake")
    draft = Draft("orders", "Orders, renamed", "fake", {"host": "db.example.com"})
    return ask(
        person=cast.frank,
        draft=draft,
        credential={"password": "x"},
        reason="Renamed.",
        slug="orders",
        now=now,
    )


def repeated(request: Request, count: int) -> None:
    """Have as many requests about one Connection, all but the first one done."""
    for number in range(Request.objects.count(), count):
        row = Request.objects.get(pk=request.pk)
        row.pk, row.number, row.state = uuid4(), request.number + number, Request.State.DONE
        row.decided_at = row.ended_at = row.created_at
        row.save(force_insert=True)


@pytest.mark.parametrize(("name", "sees"), [("frank", MANY), ("grace", MANY), ("erin", 0)])
def test_the_requests_on_a_connections_page(
    cast, client_for, asked, name, sees, django_assert_num_queries
):
    reader = client_for(getattr(cast, name))
    repeated(asked, FEW)
    few = cost(reader, "/connections/orders/")
    repeated(asked, MANY)

    with django_assert_num_queries(few):
        page = reader.get("/connections/orders/")

    assert len(page.context["requests"]) == sees


def test_what_is_listed_about_a_thing_is_bounded_and_what_is_open_is_whole(asked):
    repeated(asked, MANY + 5)
    Request.objects.filter(pk=asked.pk).update(created_at=asked.created_at.replace(year=2020))

    listed = selectors.for_subject("connection", asked.subject_id)

    assert len(listed) == MANY
    assert asked.pk not in {row.pk for row in listed}
    assert [row.pk for row in selectors.open_for_subject("connection", asked.subject_id)] == [
        asked.pk
    ]


def test_who_has_access_to_a_key(cast, client_for, django_assert_num_queries, now):
    key = builders.live(cast)

    def share(first: int, last: int) -> None:
        for number in range(first, last):
            with transaction.atomic():
                team = accounts.create_team(
                    slug=f"team-{number}", title=f"Team {number}", now=now, actor=builders.TESTS
                )
                grants.grant(
                    key=key,
                    holder=team.group,
                    permission="view",
                    reason="They look after it.",
                    actor=builders.TESTS,
                    now=now,
                )

    share(0, FEW)
    alice = client_for(cast.alice)
    address = f"/keys/{key.name}/access/"
    few = cost(alice, address)
    share(FEW, MANY)

    with django_assert_num_queries(few):
        assert "Team 39" in alice.get(address).content.decode()
