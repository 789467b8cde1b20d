"""A finding is opened once, seen again, and closed by somebody."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections

from approvals.ports import Actor, NotVisible, Subject
from keyvault.audit.models import Event
from keyvault.findings import selectors, services
from keyvault.findings.models import Finding, FindingKind

SUBJECT = Subject("connection", str(uuid4()), "orders")
DAVE = Actor("user", "1", "Dave")


def _open(now, detail="r1", sentence="An unknown credential."):
    return services.open(
        kind=FindingKind.ORPHAN,
        subject=SUBJECT,
        detail=detail,
        sentence=sentence,
        evidence={"remote_id": detail},
        now=now,
    )


@pytest.mark.django_db
def test_open_twice_is_one_finding_seen_again(now):
    first = _open(now)
    again = _open(now + timedelta(minutes=5), sentence="Still there.")

    assert again.pk == first.pk
    assert (again.opened_at, again.seen_at) == (now, now + timedelta(minutes=5))
    assert again.sentence == "Still there."
    assert Event.objects.filter(event="finding.opened").count() == 1


@pytest.mark.django_db
def test_open_after_close_is_a_new_finding(now):
    first = _open(now)
    services.close(kind=FindingKind.ORPHAN, subject=SUBJECT, sentence="Gone.", now=now)

    assert _open(now).pk != first.pk


@pytest.mark.django_db
def test_close_ends_one_detail_or_all(now):
    for detail in ("r1", "r2", "r3"):
        _open(now, detail)

    assert (
        services.close(
            kind=FindingKind.ORPHAN, subject=SUBJECT, detail="r2", sentence="Gone.", now=now
        )
        == 1
    )
    assert {found.detail for found in selectors.open_findings()} == {"r1", "r3"}
    assert services.close(kind=FindingKind.ORPHAN, subject=SUBJECT, sentence="Gone.", now=now) == 2
    assert selectors.open_count() == 0


@pytest.mark.django_db
def test_dismiss_says_who_and_why_and_works_once(now):
    finding = _open(now)

    closed = services.dismiss(finding_id=finding.pk, actor=DAVE, reason="Known.", now=now)

    assert (closed.closed_by, closed.closing) == ("Dave", "Known.")
    with pytest.raises(NotVisible):
        services.dismiss(finding_id=finding.pk, actor=DAVE, reason="Again.", now=now)


@pytest.mark.django_db
def test_for_subject_shows_what_is_open_unless_asked_for_all(now):
    services.dismiss(finding_id=_open(now).pk, actor=DAVE, reason="Known.", now=now)

    assert selectors.for_subject("connection", SUBJECT.id) == []
    assert len(selectors.for_subject("connection", SUBJECT.id, include_closed=True)) == 1


@pytest.mark.django_db(transaction=True)
def test_opened_by_many_at_once_it_is_one(now):
    barrier = threading.Barrier(8)

    def work():
        barrier.wait()
        _open(now)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Finding.objects.count() == 1
