"""The audit pages: who may read, what they say, and that reading is recorded."""

import json

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from approvals.ports import LostClaim
from keyvault.audit import denials, sequencer, verifications
from keyvault.audit.models import Event, VerificationRun
from keyvault.cli import verify_ledger
from tests.keyvault.audit.conftest import KEY

pytestmark = pytest.mark.django_db


@pytest.fixture
def dave(cast, client_for, sealed):
    """A client of the auditor, over a ledger with something in it."""
    sealed(5)
    return client_for(cast.dave)


def _text(response):
    return response.content.decode()


def _count(name):
    return Event.objects.filter(event=name).count()


ADDRESSES = [
    ("audit", []),
    ("audit-event", [1]),
    ("audit-proof", [1]),
    ("audit-export", []),
    ("audit-verify", []),
    ("audit-verifier", []),
]


@pytest.mark.parametrize(("name", "arguments"), ADDRESSES)
def test_r53_auditors_and_administrators_read(name, arguments, cast, client_for, sealed):
    sealed(3)

    for person in (cast.dave, cast.frank):
        assert client_for(person).get(reverse(name, args=arguments)).status_code == 200


@pytest.mark.parametrize(("name", "arguments"), ADDRESSES)
def test_r53_nobody_else_reads(name, arguments, cast, client_for, sealed):
    sealed(3)

    for person in (cast.alice, cast.bob, cast.erin, cast.mallory):
        assert client_for(person).get(reverse(name, args=arguments)).status_code == 403
    assert Client().get(reverse(name, args=arguments)).status_code == 302


def test_r53_an_auditor_changes_nothing(dave):
    assert dave.post(reverse("audit")).status_code == 405
    assert dave.post(reverse("audit-event", args=[1])).status_code == 405
    assert dave.delete(reverse("audit-verify")).status_code == 405


def test_r53_a_search_is_recorded_with_its_words(dave):
    dave.get(reverse("audit"), {"q": "actor:alice time:1d"})

    row = Event.objects.filter(event="audit.searched").get()
    assert row.fields == {"query": "actor:alice time:1d", "page": "first"}
    assert row.actor_label == "Dave"


def test_the_log_shows_what_matches_and_links_each_event(dave):
    page = _text(dave.get(reverse("audit"), {"q": "action:request.commented"}))

    assert page.count(">request.commented</a>") == 5
    assert "billing-reader" in page
    assert "time:" in page
    assert "5 events match" in page


def test_an_event_opens_beside_the_list_with_its_proof(dave):
    seq = Event.objects.get(fields__comment="line 0").leaf.seq
    page = _text(dave.get(reverse("audit"), {"q": "", "open": seq}))

    assert "Recomputed just now" in page
    assert "Alice Ames wrote a comment on billing-reader." in page
    assert "line 0" in page
    assert _count("audit.opened") == 1


def test_the_fragment_holds_the_drawer_alone(dave):
    page = _text(dave.get(reverse("audit-event", args=[1]), {"drawer": 1}))

    assert page.lstrip().startswith("<aside")
    assert "<html" not in page


def test_an_edited_event_says_so(dave):
    seq = Event.objects.filter(event="request.commented").first().leaf.seq
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE keyvault_event SET actor_label='Eve' WHERE actor_label='Alice Ames'")
        cursor.execute("SET session_replication_role = DEFAULT")

    page = _text(dave.get(reverse("audit-event", args=[seq])))

    assert "this event was edited" in page
    assert "all match" not in page


def test_an_event_that_is_not_there_is_missing(dave):
    assert dave.get(reverse("audit-event", args=[99999])).status_code == 404
    assert dave.get(reverse("audit-event", args=[0])).status_code == 404


def test_an_unknown_filter_is_underlined_and_the_nearest_offered(dave):
    response = dave.get(reverse("audit"), {"q": "actr:alice time:1d"})
    page = _text(response)

    assert response.status_code == 422
    assert "<u>actr:alice</u>" in page
    assert "actor:alice" in page
    assert 'value="actr:alice time:1d"' in page
    assert "request.commented" not in page


def test_nothing_matches_offers_the_way_back(dave):
    page = _text(dave.get(reverse("audit"), {"q": "actor:nobody-at-all"}))

    assert "Nothing matches" in page
    assert "Clear all" in page
    assert "Without actor:" in page


def test_a_filter_typed_into_the_bar_is_added(dave):
    page = _text(dave.get(reverse("audit"), {"q": "time:1d", "add": "result:ok"}))

    assert 'name="q" value="time:1d result:ok"' in page


def test_pages_lead_on_and_back_without_overlap(dave, write):
    write(120)
    sequencer.drain()
    seen, address = [], reverse("audit") + "?q=action:request.commented"
    for _ in range(3):
        response = dave.get(address)
        seen.append([row.line.id for row in response.context["rows"]])
        address = response.context["page"].older
    back = dave.get(response.context["page"].newer)

    assert [len(page) for page in seen] == [50, 50, 25]
    assert len({found for page in seen for found in page}) == 125
    assert [row.line.id for row in back.context["rows"]] == seen[1]


def test_a_damaged_cursor_is_missing(dave):
    assert dave.get(reverse("audit"), {"after": "x:y:z"}).status_code == 404


@pytest.mark.parametrize(
    "raw", ["\x00", "%", "_", "<script>", '"', "#", "x" * 3000, "\u202e", "a:b"]
)
def test_hostile_queries_are_data(dave, raw):
    for name in ("audit", "audit-export"):
        response = dave.get(reverse(name), {"q": raw})

        assert response.status_code in (200, 422)
        assert "<script>" not in _text(response)


def test_hostile_names_are_inert(dave, write):
    write(1, subject=KEY.__class__("key", "9", "<img src=x onerror=alert(1)>\u202e"))
    sequencer.drain()

    page = _text(dave.get(reverse("audit")))

    assert "<img src=x" not in page
    assert "\u202e" not in page


def test_the_export_is_what_was_filtered(dave, write, tmp_path):
    write(3, outcome="refused")
    sequencer.drain()
    plan = _text(dave.get(reverse("audit-export"), {"q": "result:refused"}))
    response = dave.post(reverse("audit-export"), {"q": "result:refused", "format": "jsonl"})
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(response.streaming_content))

    assert "3 events" in plan
    assert "attachment" in response["Content-Disposition"]
    assert verify_ledger.main([str(path)]) == 0
    assert path.read_text().count('"request.commented"') == 3
    assert _count("audit.exported") == 1


def test_csv_is_exported_too(dave):
    response = dave.post(reverse("audit-export"), {"q": "actor:*ames", "format": "csv"})
    assert response.status_code == 200
    response = dave.post(
        reverse("audit-export"), {"q": "action:request.commented", "format": "csv"}
    )
    text = b"".join(response.streaming_content).decode()

    assert text.splitlines()[0].startswith("seq,time,action")
    assert len(text.splitlines()) == 6


def test_a_filter_without_meaning_exports_nothing(dave):
    response = dave.post(reverse("audit-export"), {"q": "actr:x", "format": "csv"})

    assert response.status_code == 422
    assert _count("audit.exported") == 0


def test_r52_the_proof_of_one_event_verifies_offline(dave, tmp_path, settings):
    response = dave.get(reverse("audit-proof", args=[3]))
    found = json.loads(response.content)
    path = tmp_path / "proof.json"
    path.write_bytes(response.content)
    trust = str(settings.CHECKPOINT_DIR / "ledger.vkey")

    assert verify_ledger.main([str(path), "--trust", trust]) == 0
    assert len(json.dumps({**found, "event": {}})) + 24 * 47 <= 2048

    path.write_text(json.dumps({**found, "event": {**found["event"], "outcome": "refused"}}))
    assert verify_ledger.main([str(path), "--trust", trust]) == 1


def test_a_verification_is_asked_for_and_its_result_shown(dave):
    response = dave.post(reverse("audit-verify-start"))
    run = VerificationRun.objects.get()
    assert response["Location"] == reverse("audit-verification", args=[run.id])
    assert "A worker takes it up" in _text(dave.get(response["Location"]))
    assert dave.post(reverse("audit-verify-start"))["Location"] == response["Location"]

    verifications.work(run.id, _Job())

    assert "match their leaves" in _text(dave.get(response["Location"]))
    assert "Intact" in _text(dave.get(reverse("audit-verify")))
    row = Event.objects.get(event="audit.verified")
    assert (row.actor_label, row.fields["state"]) == ("Dave", "intact")


def test_a_verification_that_was_taken_over_says_nothing(dave):
    dave.post(reverse("audit-verify-start"))
    run = VerificationRun.objects.get()

    with pytest.raises(LostClaim):
        verifications.work(run.id, _LostJob())

    run.refresh_from_db()
    assert run.finished_at is None
    assert not Event.objects.filter(event="audit.verified").exists()


def test_a_broken_ledger_names_the_event_and_turns_the_strip_red(dave, cast):
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(
            "UPDATE keyvault_event SET fields = '{}' FROM keyvault_ledgerleaf l"
            " WHERE l.event_id = id AND l.seq = 2"
        )
        cursor.execute("SET session_replication_role = DEFAULT")
    address = dave.post(reverse("audit-verify-start"))["Location"]
    verifications.work(VerificationRun.objects.get().id, _Job())

    page = _text(dave.get(address))

    assert "Something was altered" in page
    assert reverse("audit-event", args=[2]) in page
    assert "found the ledger altered" in _text(dave.get(reverse("audit")))


class _Job:
    now = timezone.now()

    def fence(self):
        pass

    def reached(self, point):
        pass


class _LostJob(_Job):
    def fence(self):
        raise LostClaim("another worker holds this job")


def test_r54_a_refusal_is_counted_with_who_and_where(cast, client_for, sealed):
    sealed(1)
    mallory = client_for(cast.mallory)
    for _ in range(3):
        assert mallory.get(reverse("audit")).status_code == 403
    Client().get("/invite/not-a-token/")

    assert denials.flush(timezone.now(), is_forced=True) == 1
    row = Event.objects.get(event="access.refused")
    assert (row.actor_label, row.fields["gate"], row.fields["count"]) == ("Mallory", "audit", 3)
    assert row.fields["example"] == reverse("audit")
