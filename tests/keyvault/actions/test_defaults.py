from __future__ import annotations

import pytest
from django.db import transaction

from approvals import ports, selectors, services
from approvals.models import PolicyVersion, Request
from approvals.policy.rules import Rules
from keyvault.actions import create_key, defaults
from keyvault.connections.models import Connection
from keyvault.inventory.models import Environment
from tests.keyvault.actions.conftest import EVERYWHERE, declared

pytestmark = pytest.mark.django_db


def policy(house, **changes) -> str:
    action = create_key.preview(
        person=house.cast.alice, declared=declared(**changes), now=house.now
    )
    return selectors.preview(action, house.cast.alice, now=house.now).deciders.policy


def keep_for_the_sandbox(house) -> None:
    defaults.add_sandbox(now=house.now, actor=defaults.SETUP)
    sandbox = Environment.objects.get(slug="sandbox")
    Connection.objects.filter(slug="orders").update(environment=sandbox)


def test_seeding_again_keeps_what_was_changed_meanwhile(house):
    body = PolicyVersion.objects.get(policy__name="Connections").body
    edited = Rules.from_json(body | {"ticket_pattern": "OPS-[0-9]+"})
    with transaction.atomic():
        services.save_policy(rules=edited, actor=defaults.SETUP, now=house.now)
    before = PolicyVersion.objects.count()

    defaults.seed(now=house.now)

    assert PolicyVersion.objects.count() == before


def test_the_first_environments_are_made_only_where_there_is_none(db, now):
    defaults.seed(now=now)
    Environment.objects.filter(slug="dev").delete()
    defaults.seed(now=now)

    assert list(Environment.objects.values_list("slug", "protected")) == [("prod", True)]


def test_each_place_has_its_policy(house):
    assert policy(house, environment="prod") == "Keys in protected environments"
    assert policy(house) == "Keys elsewhere"

    keep_for_the_sandbox(house)
    assert policy(house, environment="sandbox", lifetime_days=7) == "Sandbox keys of a week"
    assert policy(house, environment="sandbox", lifetime_days=8) == "Keys elsewhere"


def test_a_sandbox_that_becomes_protected_approves_nothing_by_itself(house):
    keep_for_the_sandbox(house)
    Environment.objects.filter(slug="sandbox").update(protected=True)

    name = policy(house, environment="sandbox", lifetime_days=7)

    assert name == "Keys in protected environments"


def test_no_key_at_a_server_of_every_environment_is_a_sandbox_key(house):
    defaults.add_sandbox(now=house.now, actor=defaults.SETUP)

    request = house.ask(environment="sandbox", lifetime_days=7, connection=EVERYWHERE)
    house.work()

    assert Request.objects.get(pk=request.pk).state == "pending"


def test_a_key_at_a_server_of_every_environment_takes_two_people_of_different_teams(house):
    request = house.ask(connection=EVERYWHERE)

    house.say(house.cast.bob, request)
    assert Request.objects.get(pk=request.pk).state == "pending"
    house.say(house.cast.carol, request)

    assert Request.objects.get(pk=request.pk).state == "approved"


def test_a_key_of_dev_whose_connection_came_to_serve_production_counts_as_protected(house):
    key = house.create()
    Connection.objects.filter(slug="orders").update(environment=house.cast.prod)

    request = house.revoke(key)

    assert request.policy_version.policy.name == "Keys in protected environments"


def test_where_no_environment_is_protected_one_that_serves_all_is_not(house):
    Environment.objects.update(protected=False)

    assert policy(house, connection=EVERYWHERE) == "Keys elsewhere"


def test_a_sandbox_key_of_a_week_needs_nobody(house):
    keep_for_the_sandbox(house)

    request = house.ask(environment="sandbox", lifetime_days=7)
    house.work()

    assert Request.objects.get(pk=request.pk).state == "done"


def test_every_act_of_the_product_has_a_policy():
    covered = {kind for spec in defaults.POLICIES for kind in spec["scope"]["kind"]}

    assert {kind for kind in ports.kinds() if not kind.startswith("test.")} <= covered
