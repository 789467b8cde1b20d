"""The dependents of a key: who may name them, what is refused in which words, what the page shows."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from uuid import uuid4

import pytest
from django.db import transaction

from keyvault.agents import memberships
from keyvault.audit.models import Event
from keyvault.dependents import services as dependents
from keyvault.dependents.models import Dependent, Health
from keyvault.usage.models import LoadedVersion
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/keys/ledger-reader/dependents/"
NEW = f"{PAGE}new/"
BY_HAND = {"agent": "", "name": "Report server", "health": "by_hand", "wave": "1", "cache_s": "0"}


def text(answer):
    return " ".join(unescape(re.sub("<[^>]*>", " ", answer.content.decode())).split())


@pytest.fixture
def key(cast):
    return builders.live(cast, delivery_mode="pull")


@pytest.fixture
def bot(cast, key):
    found = agents.agent(cast)
    agents.granted(cast, found, key)
    return found


def of_agent(bot, **more):
    return {**BY_HAND, "agent": bot.name, "name": "", "health": "reports", **more}


def test_its_owner_registers_a_place_that_no_program_can_see(cast, client_for, key):
    alice = client_for(cast.alice)

    answer = alice.post(NEW, BY_HAND, follow=True)

    assert "The next rotation waits for Report server." in text(answer)
    row = Dependent.objects.get()
    assert (row.name, row.health, row.wave, row.agent) == ("Report server", Health.BY_HAND, 1, None)
    event = Event.objects.get(event="dependent.registered")
    assert event.actor_label == str(cast.alice)
    assert "cannot be seen" in text(alice.get(PAGE))


def test_an_agent_goes_by_its_own_name_and_shows_what_it_reported(cast, client_for, key, bot, now):
    alice = client_for(cast.alice)

    alice.post(NEW, of_agent(bot, cache_s="60"))
    LoadedVersion.objects.create(
        key=key,
        agent=bot,
        number=3,
        is_healthy=False,
        first_at=now - timedelta(hours=1),
        last_at=now,
    )

    row = Dependent.objects.get()
    assert (row.name, row.agent, row.cache_s) == ("refund-bot", bot, 60)
    shown = text(alice.get(PAGE))
    assert "v3" in shown
    assert "Not healthy" in shown
    assert "60 s" in shown


def test_an_agent_s_read_is_shown_and_nothing_is_claimed_before(cast, client_for, key, bot):
    alice = client_for(cast.alice)
    alice.post(NEW, of_agent(bot, health="reads"))

    assert "nothing in 30 days" in text(alice.get(PAGE))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "Give it a name that people know it by."),
        ({"health": "reads"}, "Only an agent reads or reports by itself."),
        ({"agent": "refund-bot"}, "An agent says by itself which version it has."),
        ({"agent": "night-watch", "health": "reads"}, "Select a valid choice."),
        ({"health": "oracle"}, "Select a valid choice."),
        ({"wave": "-1"}, "greater than or equal to 0"),
        ({"cache_s": "2592001"}, "less than or equal to 2592000"),
        ({"name": "x" * 121}, "at most 120 characters"),
    ],
)
def test_what_does_not_fit_is_refused_and_what_was_typed_stays(
    cast, client_for, key, bot, change, words
):
    agents.agent(cast, "night-watch")

    answer = client_for(cast.alice).post(NEW, BY_HAND | {"cache_s": "7"} | change)

    assert answer.status_code == 422
    assert words in text(answer)
    assert f'value="{change.get("cache_s", "7")}"' in answer.content.decode()
    assert not Dependent.objects.exists()


def test_one_name_and_one_agent_stand_once(cast, client_for, key, bot):
    alice = client_for(cast.alice)
    alice.post(NEW, BY_HAND)
    alice.post(NEW, of_agent(bot))

    assert "is a dependent of ledger-reader already" in text(alice.post(NEW, BY_HAND))
    assert "Select a valid choice" in text(alice.post(NEW, of_agent(bot)))
    assert Dependent.objects.count() == 2


def test_a_team_s_grant_makes_its_agents_choosable_and_nobody_else(cast, client_for, key):
    member, stranger = agents.agent(cast, "ledger-sync"), agents.agent(cast, "web-scout")
    agents.granted(cast, cast.payments.group, key)
    with transaction.atomic():
        memberships.join(
            agent_id=member.pk,
            group=cast.payments.group,
            request_id=uuid4(),
            actor=agents.TESTS,
            now=cast.now,
        )

    choices = client_for(cast.alice).get(NEW).context["form"].fields["agent"].choices

    assert [value for value, _ in choices] == ["", member.name]
    assert stranger.name not in dict(choices)


def test_a_registration_is_ended_and_stays_in_the_history(cast, client_for, key):
    alice = client_for(cast.alice)
    alice.post(NEW, BY_HAND)
    row = Dependent.objects.get()

    answer = alice.post(f"{PAGE}{row.pk}/end/", follow=True)

    assert "The next rotation does not wait for Report server." in text(answer)
    assert "Nobody is registered" in text(answer)
    row.refresh_from_db()
    assert row.ended_at is not None
    assert Event.objects.filter(event="dependent.ended").count() == 1
    assert alice.post(f"{PAGE}{row.pk}/end/").status_code == 404
    assert alice.get(f"{PAGE}{row.pk}/end/").status_code == 405


@pytest.mark.parametrize("name", ["dave", "mallory", "bob"])
def test_who_may_not_rotate_names_nobody(cast, client_for, key, name):
    alice, other = client_for(cast.alice), client_for(getattr(cast, name))
    alice.post(NEW, BY_HAND)
    row = Dependent.objects.get()

    assert other.get(NEW).status_code == 404
    assert other.post(NEW, BY_HAND | {"name": "Another"}).status_code == 404
    assert other.post(f"{PAGE}{row.pk}/end/").status_code == 404
    assert Dependent.objects.filter(ended_at=None).count() == 1
    if name == "dave":
        shown = text(other.get(PAGE))
        assert "Report server" in shown
        assert "Register one" not in shown
    else:
        assert other.get(PAGE).status_code == 404


def test_a_dependent_of_another_key_is_not_ended_by_this_one(cast, client_for, key):
    other = builders.live(cast, name="mail-sender")
    with transaction.atomic():
        row = dependents.register(
            key=other, name="x", health=Health.BY_HAND, now=cast.now, actor=agents.TESTS
        )

    assert client_for(cast.alice).post(f"{PAGE}{row.pk}/end/").status_code == 404
    row.refresh_from_db()
    assert row.ended_at is None


def test_a_revoked_key_takes_no_more_dependents(cast, client_for, key, now):
    alice = client_for(cast.alice)
    type(key).objects.filter(pk=key.pk).update(state="revoked", revoked_at=now)

    assert "Register one" not in text(alice.get(PAGE))
    assert "ledger-reader is revoked." in text(alice.post(NEW, BY_HAND))
    assert not Dependent.objects.exists()
