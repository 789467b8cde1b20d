"""The pages of dependents that keyvault asks over HTTP: judged in both themes, and used by keyboard."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from approvals.models import Request
from keyvault.dependents import probes
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Health, Probe
from keyvault.dependents.probing import Address
from tests.keyvault.actions import rules
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def key(cast, now):
    """A key with one dependent that answers well, one that does not, and one without an address."""
    rules.DEFAULTS.put(now)
    made = builders.live(cast)
    answers = {
        "orders": {"answer": "healthy", "status": 200, "number": 3, "named_at": now},
        "invoices": {
            "answer": "bad",
            "status": 503,
            "bad_count": 2,
            "bad_since": now,
            "bad_at": now,
        },
        "reports": None,
    }
    with transaction.atomic():
        for name, said in answers.items():
            row = dependents.register(
                key=made, name=name, health=Health.PROBED, now=now, actor=agents.TESTS
            )
            if said is None:
                continue
            probe = probes.put(
                dependent=row,
                address=Address(f"https://{name}.example.com/health"),
                request_id=uuid4(),
                actor=agents.TESTS,
                now=now,
            )
            asked_at = now - timedelta(seconds=20)
            Probe.objects.filter(pk=probe.pk).update(asked_at=asked_at, **said)
    return made


def test_the_pages_of_probes_are_clean(key, cast, signed_in_page, judged):
    page = signed_in_page(cast.alice)
    row = Dependent.objects.get(name="reports")
    page.goto(f"/keys/{key.name}/dependents/")
    judged(page, "probes-dependents")
    page.goto(f"/keys/{key.name}/dependents/{row.pk}/probe/")
    judged(page, "probes-form")


def test_an_address_is_asked_for_with_the_keyboard_alone(key, cast, signed_in_page):
    page = signed_in_page(cast.alice)
    row = Dependent.objects.get(name="reports")
    page.goto(f"/keys/{key.name}/dependents/{row.pk}/probe/")

    page.get_by_label("Address", exact=True).focus()
    page.keyboard.type("http://reports.internal:8080/health")
    page.get_by_label("It lies in our own network", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_label("Reason", exact=True).focus()
    page.keyboard.type("It says there how it is.")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Send for approval").focus()
    page.keyboard.press("Enter")

    page.wait_for_url("**/approvals/**")
    asked = Request.objects.get(kind="probe.add")
    assert asked.payload["allowed"] == "http://reports.internal:8080"
