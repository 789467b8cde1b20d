from datetime import timedelta

import pytest
from django.db import DatabaseError, connection
from django.utils import timezone

from approvals import receipts
from approvals.models import Job
from keyvault.crypto import keyring
from keyvault.findings import services as findings
from keyvault.findings.models import FindingKind
from keyvault.invalidation.models import GatewayInstance, RightChange
from keyvault.invalidation.selectors import MOST_BEHIND, GatewayState, gateways
from keyvault.vault import seals
from keyvault.web import system, trust
from tests.keyvault.agents import builders as agents
from tests.keyvault.invalidation import snapshots
from tests.keyvault.inventory.builders import TESTS

pytestmark = pytest.mark.django_db


@pytest.fixture
def held_job(house):
    """Return a held job of a request of alice's."""
    request = house.approved()
    job = house.job(request)
    Job.objects.filter(pk=job.pk).update(
        state="held", code="refused", sentence="The server said no.", attempts=6, ended_at=house.now
    )
    return job


def _resume(client, job):
    return client.post(f"/system/jobs/{job.pk}/resume/")


@pytest.mark.parametrize("name", ["alice", "frank"])
def test_the_requester_and_an_administrator_take_a_held_job_up_again(
    house, held_job, client_for, name
):
    client = client_for(getattr(house.cast, name))
    assert b"The server said no." in client.get("/system/").content

    assert _resume(client, held_job).status_code == 302

    held_job.refresh_from_db()
    assert (held_job.state, held_job.attempts) == ("ready", 0)


@pytest.mark.parametrize("name", ["bob", "dave", "mallory"])
def test_nobody_else_does(house, held_job, client_for, name):
    assert _resume(client_for(getattr(house.cast, name)), held_job).status_code == 404

    held_job.refresh_from_db()
    assert held_job.state == "held"


def test_a_stranger_does_not_see_the_job_either(house, held_job, client_for):
    page = client_for(house.cast.mallory).get("/system/").content

    assert b"The server said no." not in page
    assert b"No job is held" in page


def test_a_second_press_says_what_happened(house, held_job, client_for):
    client = client_for(house.cast.frank)
    _resume(client, held_job)

    assert _resume(client, held_job).status_code == 404


def test_findings_are_shown_to_whose_work_it_is(cast, client_for, now):
    from approvals.ports import Subject

    findings.open(
        kind=FindingKind.ORPHAN,
        subject=Subject("connection", "x", "ledger-db"),
        sentence="A role that nobody asked for.",
        now=now,
        actor=TESTS,
    )

    assert b"nobody asked for" in client_for(cast.erin).get("/system/").content
    assert b"nobody asked for" not in client_for(cast.alice).get("/system/").content


def test_a_part_that_cannot_be_read_says_so_and_the_rest_stays(cast, client_for, monkeypatch):
    def fail(now):
        raise DatabaseError("gone")

    monkeypatch.setattr(system, "ledger", fail)
    page = client_for(cast.frank).get("/system/").content.decode()

    assert "This part could not be read" in page
    assert "Key-encryption key" in page


def test_the_strip_says_unknown_and_never_well_when_it_cannot_know(cast, monkeypatch, now):
    def fail(now):
        raise DatabaseError("gone")

    monkeypatch.setattr(trust.audit, "trust", fail)

    assert trust.lines(now)[0] == trust.Line("", "Ledger", "unknown")


def test_the_strip_turns_red_when_nobody_takes_due_work(house):
    request = house.approved()
    Job.objects.filter(subject_id=request.pk).update(due_at=house.now - timedelta(minutes=3))

    line = trust.work(house.now)

    assert line == trust.Line("bad", "Work", "stopped for 3 min")


def test_the_strip_counts_held_jobs(house, held_job):
    Job.objects.exclude(pk=held_job.pk).delete()

    assert trust.work(house.now) == trust.Line("warn", "Work", "1 job held")


def test_a_sealed_vault_is_red(cast, monkeypatch):
    monkeypatch.setattr(
        seals, "seal_state", lambda: seals.SealState(is_sealed=True, sentence="No key.")
    )

    assert trust.vault() == trust.Line("bad", "Vault", "sealed")
    assert keyring.active()


def test_solo_mode_stays_in_the_strip_until_it_ends(cast, monkeypatch, now):
    assert "Solo mode" not in {line.label for line in trust.lines(now)}

    monkeypatch.setattr(trust.accounts, "solo", lambda: True)

    assert trust.lines(now)[-1] == trust.Line("warn", "Solo mode", "one administrator")


def test_the_page_shows_the_keys_that_verifiers_pin(house, client_for):
    page = client_for(house.cast.dave).get("/system/").content.decode()

    assert receipts.public_key() in page
    # The tests' process has no checkpoint key.
    assert "Not available while this process is sealed" in page


def test_a_receipt_stands_beside_the_command_that_checks_it(house, client_for):
    request = house.approved()

    page = client_for(house.cast.alice).get(f"/approvals/{request.pk}/").content.decode()

    command = f"keyvault verify {request.label}-approve.json --trust {receipts.public_key()}"
    assert command in page


def _gateway(now, name: str, *, seen_ago_s: float, ended: bool = False) -> GatewayInstance:
    seen_at = timezone.now() - timedelta(seconds=seen_ago_s)
    return GatewayInstance.objects.create(
        name=name,
        audit_mode="durable",
        version="1.2.3",
        started_at=now,
        seen_at=seen_at,
        ended_at=seen_at if ended else None,
        applied=snapshots.NOTHING,
    )


def test_each_gateway_is_shown_with_what_it_has_heard(cast, now):
    _gateway(now, "live-one:1", seen_ago_s=-60)
    _gateway(now, "silent-one:2", seen_ago_s=30)
    _gateway(now, "ended-one:3", seen_ago_s=5, ended=True)
    agents.agent(cast)

    found = {row.name: (row.state, row.behind > 0, row.version) for row in gateways()}

    assert found == {
        "live-one:1": (GatewayState.LIVE, True, "1.2.3"),
        "silent-one:2": (GatewayState.SILENT, True, "1.2.3"),
        "ended-one:3": (GatewayState.ENDED, False, "1.2.3"),
    }


def test_what_a_gateway_has_not_heard_is_counted_up_to_a_bound(cast, now):
    _gateway(now, "silent-one:2", seen_ago_s=30)
    RightChange.objects.bulk_create(
        RightChange(xact=1000, kind="token", subject_id=cast.alice.pk, at=now)
        for _ in range(MOST_BEHIND + 5)
    )

    assert [found.behind for found in gateways()] == [MOST_BEHIND]


def test_a_gateway_that_has_heard_everything_is_not_behind(cast, now):
    agents.agent(cast)
    with connection.cursor() as cursor:
        # A transaction of its own has not ended yet, so the snapshot is made to see it.
        cursor.execute("SELECT pg_current_xact_id()::text::bigint + 1")
        after = cursor.fetchone()[0]
    row = _gateway(now, "live-one:1", seen_ago_s=-60)
    GatewayInstance.objects.filter(pk=row.pk).update(applied=f"{after}:{after}:")

    assert [found.behind for found in gateways()] == [0]


@pytest.mark.parametrize("name", ["frank", "erin", "dave"])
def test_operators_see_the_gateways_and_others_do_not_see_the_card(cast, client_for, now, name):
    _gateway(now, "gate-host:4711", seen_ago_s=-60)

    page = client_for(getattr(cast, name)).get("/system/").content.decode()
    other = client_for(cast.alice).get("/system/").content.decode()

    assert "gate-host:4711" in page
    assert "1.2.3" in page
    assert "Live" in page.partition('id="gateways"')[2]
    assert "gate-host" not in other
    assert 'id="gateways"' not in other
    assert client_for(cast.alice).get("/live/", {"t": "gateways"}).json() == {}


def test_without_a_gateway_the_card_says_so(cast, client_for):
    assert "No gateway has run" in client_for(cast.frank).get("/system/").content.decode()


def test_gateways_that_cannot_be_read_are_said_to_be_unknown(cast, client_for, monkeypatch):
    def fail():
        raise DatabaseError

    monkeypatch.setattr(system.invalidation, "gateways", fail)

    assert "could not be read" in client_for(cast.frank).get("/system/").content.decode()
