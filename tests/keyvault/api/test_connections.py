"""Connections over the API: who may list them, and what is told of an admin credential."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import transaction

from keyvault.connections import renewals, trials
from keyvault.connections.models import Connection
from tests.keyvault.connections import fakes
from tests.keyvault.vault.rows import WORKER

pytestmark = pytest.mark.django_db


def test_age_cadence_and_the_newest_renewal_are_told(house, as_, cast, now):
    fakes.install(fakes.Renews())
    where = Connection.objects.get(slug="orders")
    at = now - timedelta(days=3)
    Connection.objects.filter(pk=where.pk).update(
        credential_number=1, credential_at=at, renew_days=30
    )
    with transaction.atomic():
        made = renewals.begin(
            connection_id=where.pk,
            request_id=uuid4(),
            started_by="Frank",
            actor=WORKER,
            now=now,
        )
        renewals.hold(made, "The right is missing.", now=now)

    found = as_(cast.frank).get("/connections").json()["items"]

    assert [row["name"] for row in found] == ["everywhere", "orders"]
    one = found[1]
    assert one["name"] == where.slug
    credential = one["admin_credential"]
    assert credential["in_place_at"] is not None
    assert credential["due_at"] is not None
    assert (credential["renew_days"], credential["can_renew"]) == (30, True)
    assert credential["renewal"]["state"] == "planned"
    assert credential["renewal"]["held_at"] is not None
    assert credential["renewal"]["sentence"] == "The right is missing."


def test_what_was_never_renewed_says_so(house, as_, cast):
    for one in as_(cast.dave).get("/connections").json()["items"]:
        assert one["admin_credential"]["renewal"] is None
        assert one["admin_credential"]["renew_days"] is None


def test_the_newest_test_run_is_told_with_its_steps(house, as_, cast, now):
    where = Connection.objects.get(slug="orders")
    for at in (now - timedelta(days=1), now):
        request_id = uuid4()
        with transaction.atomic():
            made = trials.begin(
                connection_id=where.pk,
                request_id=request_id,
                started_by="Frank",
                options={},
                actor=WORKER,
                now=at,
            )
            trials.stepped(made, trials.Step.CHECK, outcome="failed", sentence="No right.", now=at)
            trials.give_up(made, "No right.", now=at)

    found = as_(cast.dave).get("/connections").json()["items"]

    assert found[0]["test_run"] is None
    told = found[1]["test_run"]
    assert (told["request_id"], told["state"]) == (str(request_id), "failed")
    assert (told["sentence"], told["left_behind"]) == ("No right.", "")
    [step] = told["steps"]
    assert (step["step"], step["outcome"], step["sentence"]) == ("check", "failed", "No right.")


def test_the_list_is_walked_by_cursors(house, as_, cast):
    first = as_(cast.frank).get("/connections?limit=1").json()
    rest = as_(cast.frank).get(f"/connections?limit=1&cursor={first['next_cursor']}").json()

    names = [row["name"] for row in first["items"] + rest["items"]]
    assert (names, rest["next_cursor"]) == (["everywhere", "orders"], None)


@pytest.mark.parametrize("name", ["alice", "bob", "mallory"])
def test_others_are_refused(house, as_, cast, name):
    assert as_(getattr(cast, name)).get("/connections").status_code == 403
