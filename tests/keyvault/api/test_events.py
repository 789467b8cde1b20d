"""The ledger by token: for auditors, in the language of the audit page, itself recorded (R53)."""

from __future__ import annotations

import pytest

from keyvault.audit.models import Event
from tests.keyvault.inventory import builders as keys

pytestmark = pytest.mark.django_db


def test_r53_an_auditor_searches_and_the_search_is_recorded(cast, as_):
    keys.live(cast)

    found = as_(cast.dave).get("/events?q=action:key.live&limit=5").json()["items"]

    assert [(one["event"], one["subject"]["label"]) for one in found] == [
        ("key.live", "ledger-reader")
    ]
    record = Event.objects.get(event="audit.searched")
    assert (record.actor_label, record.fields["query"]) == ("Dave", "action:key.live")


@pytest.mark.parametrize("who", ["alice", "bob", "frank", "mallory"])
def test_nobody_but_an_auditor_reads_events(cast, as_, who):
    answer = as_(getattr(cast, who)).get("/events")

    assert answer.status_code == 403
    assert not Event.objects.filter(event="audit.searched").exists()


def test_an_agent_reads_no_events_even_of_an_auditor(cast, as_):
    from tests.keyvault.agents import builders

    bot = builders.agent(cast, owner=cast.dave, backup_owner=None)

    assert as_(bot).get("/events").json()["type"].endswith(":people-only")


def test_cursors_lead_through_every_event_once(cast, as_):
    dave, seen, cursor = as_(cast.dave), [], ""
    total = Event.objects.filter(event__startswith="membership.").count()

    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        body = dave.get(f"/events?q=time:all action:membership.joined&limit=2{more}").json()
        seen += [one["id"] for one in body["items"]]
        cursor = body["next_cursor"]

    assert len(seen) == len(set(seen)) == total > 2


@pytest.mark.parametrize("query", ["q=colour:red", "q=seq:x", "cursor=made-up", "limit=0", "a=b"])
def test_a_query_that_is_not_understood_is_not_run(cast, as_, query):
    answer = as_(cast.dave).get(f"/events?{query}")

    assert answer.status_code == 400
