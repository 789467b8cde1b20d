"""Renewals of an admin credential: asked, approved and begun, each once."""

from __future__ import annotations

import pytest
from django.db import transaction

from approvals import queue
from approvals.models import Request
from approvals.ports import CannotExecute
from keyvault.actions import about_keys, renew_connection
from keyvault.actions.renew_connection import RenewConnection
from keyvault.audit.models import Event
from keyvault.connections import renewals
from keyvault.connections.models import Connection, Renewal
from tests.keyvault.connections import fakes
from tests.keyvault.connections.fakes import Claims
from tests.keyvault.connections.renewals.conftest import by_hand
from tests.races import Racer, await_somebody_waiting

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_renewal_is_asked_and_another_administrator_decides(ask, where, cast):
    request = ask()

    assert request.state == "pending"
    plan = request.plan
    assert "kv_admin" not in str(request.payload)
    fields = {row["field"] for row in plan["changes"]}
    assert fields >= {"Admin credential (fingerprint)", "Environment"}
    assert "locked out" in plan["breaks"][0]
    assert not Renewal.objects.exists()


def test_executing_begins_one_renewal_however_often(ask, now):
    request = ask()
    action = RenewConnection.from_payload(request.payload)

    for _ in range(2):
        action.execute(request_id=request.pk, run=Claims(now).claim())

    renewal = Renewal.objects.get()
    assert (renewal.number, renewal.state, renewal.request_id) == (2, "planned", request.pk)
    assert queue.newest(kind=renewals.JOB, subject_id=renewal.pk)[0] == "ready"
    assert Event.objects.filter(event="renewal.started").count() == 1


def test_an_approval_of_before_renews_no_later_credential(ask, where, now):
    request = ask()
    by_hand(where, now)
    action = RenewConnection.from_payload(request.payload)

    with pytest.raises(CannotExecute, match="replaced meanwhile"):
        action.execute(request_id=request.pk, run=Claims(now).claim())


def test_an_approval_renews_no_credential_that_came_as_it_was_carried_out(ask, where, now):
    request = ask()
    action = RenewConnection.from_payload(request.payload)

    with transaction.atomic():
        Connection.objects.select_for_update().get()
        racer = Racer(
            lambda: action.execute(request_id=request.pk, run=Claims(now, request.pk).claim())
        )
        await_somebody_waiting()
        Connection.objects.update(credential_number=2)

    with pytest.raises(CannotExecute, match="replaced meanwhile"):
        racer.finish()
    assert not Renewal.objects.exists()


def test_a_second_one_is_refused_while_one_is_asked_or_open(ask, begin, now):
    ask()
    with pytest.raises(about_keys.AlreadyAsked):
        ask()
    Request.objects.update(state="withdrawn", ended_at=now)
    begin()

    with pytest.raises(renewals.NotRenewable, match="already"):
        ask()
    with pytest.raises(renewals.NotRenewable, match="already"):
        begin()


def test_a_provider_that_cannot_is_told_so(cast, where, begin):
    fakes.install(fakes.Fake())

    with pytest.raises(renewals.NotRenewable, match="by hand"):
        begin()
    with pytest.raises(renewals.NotRenewable, match="by hand"):
        renew_connection.plan(person=cast.frank, slug="orders")
