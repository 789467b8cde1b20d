"""Taking a lease: what comes of it, for how long, what is refused, and what a failure leaves."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction

from approvals.ports import NotVisible
from keyvault.actions import change_key, change_keys, new_key, reveal_secret, rotate_key
from keyvault.agents import memberships
from keyvault.agents.models import AccessToken, Agent
from keyvault.agents.tokens import BadToken
from keyvault.audit.models import Event
from keyvault.connections import minting
from keyvault.connections.minting import NotMinted
from keyvault.inventory.models import Grant, Key
from keyvault.leases import handover, services, sweep
from keyvault.leases.models import Lease, LeaseState
from keyvault.plugins.faults import Fault
from keyvault.providers import registry
from keyvault.usage import selectors as usage
from keyvault.usage import watch
from keyvault.vault import selectors as versions
from tests.keyvault.agents import builders
from tests.keyvault.connections.fakes import Crash
from tests.keyvault.leases.conftest import OPTIONS

pytestmark = pytest.mark.django_db
LOST = b"POST /"


def events(prefix: str = "lease.") -> list[str]:
    rows = Event.objects.filter(event__startswith=prefix).order_by("at", "id")
    return list(rows.values_list("event", flat=True))


def test_a_key_that_is_lent_is_approved_like_any_and_holds_no_version(shop):
    assert shop.key.state == "live"
    assert versions.versions(shop.key.pk) == []
    assert (shop.key.rotation_due_at, shop.key.rotation_cause) == (None, "")
    assert shop.living() == 0, "nothing is minted before somebody takes a lease"
    with pytest.raises(rotate_key.NotRotatable, match="keeps no value"):
        rotate_key.ask(
            person=shop.house.cast.alice, name=shop.key.name, reason="Old.", now=shop.now
        )
    with pytest.raises(reveal_secret.NotRevealable):
        shop.house.permit(shop.key)


def test_a_key_that_is_lent_is_never_made_one_that_somebody_reads(shop):
    wanted = change_keys.Wanted(shop.key.name, {"delivery_mode": "reveal"})

    with pytest.raises(change_key.NotChangeable, match="keeps no value"):
        change_keys.ask(
            person=shop.house.cast.alice, wanted=[wanted], reason="By hand.", now=shop.now
        )


def test_what_it_may_do_and_that_nothing_is_kept_stands_in_the_plan(house, lending):
    request = house.ask(
        name="shop-repository",
        connection=lending.slug,
        delivery_mode="pull",
        options={**OPTIONS, "longest_minutes": "10"},
    )

    told = {row["field"]: row["then"] for row in request.plan["changes"]}
    assert told["Permissions"] == "contents:write issues:read"
    assert told["Longest lease in minutes"] == "10"
    assert told["Value"].startswith("none is kept")
    assert "Value changes" not in told


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"delivery_mode": "reveal"}, "delivery_mode"),
        ({"options": {"permissions": "everything"}}, "options"),
        ({"options": {**OPTIONS, "longest_minutes": "90"}}, "options"),
    ],
)
def test_what_cannot_be_lent_is_refused_before_anybody_signs(house, lending, changes, field):
    asked = {"delivery_mode": "pull", "options": OPTIONS, "connection": lending.slug, **changes}
    with pytest.raises(new_key.BadDeclaration) as refused:
        house.ask(name="shop-repository", **asked)
    assert set(refused.value.errors) == {field}


def test_an_app_that_is_not_ready_keeps_the_key_from_going_live(house, lending, server):
    [installation] = server.installations.values()
    server.installations.clear()
    request = house.ask(
        name="shop-repository", connection=lending.slug, delivery_mode="pull", options=OPTIONS
    )
    house.say(house.cast.bob, request)
    house.work()
    assert Key.objects.get(request_id=request.pk).state == "requested"
    server.installations[installation.number] = installation


def test_a_lease_brings_a_credential_that_works_and_no_column_holds_it(shop):
    lent = shop.take()

    value = lent.material["token"].reveal().decode()
    assert value.startswith("ghs_")
    [token] = next(iter(shop.server.installations.values())).tokens.values()
    assert token.permissions == {"contents": "write", "issues": "read", "metadata": "read"}
    assert (lent.lease.state, lent.lease.agent, lent.lease.key) == ("open", shop.agent, shop.key)
    assert lent.lease.expires_at == shop.now + timedelta(minutes=15)
    assert value not in str(Lease.objects.values().get())
    assert value not in str(list(Event.objects.values()))
    assert events() == ["lease.asked", "lease.taken"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT blob FROM keyvault_sealed WHERE subject_kind = 'lease'")
        [(blob,)] = cursor.fetchall()
    assert value.encode() not in bytes(blob)


def test_a_lease_counts_as_one_use_of_its_key_by_its_agent(shop):
    assert usage.last_use(shop.key.pk) is None
    first = shop.take().lease
    shop.take()
    shop.give_back(first)

    found = usage.usage_of(shop.key.pk, since=shop.now - timedelta(days=1), now=shop.now)

    assert (found.total, found.read_day, found.reported_day) == (2, 2, 0)
    assert [(part.name, part.count) for part in found.by_user] == [("refund-bot", 2)]
    assert found.by_host == ()
    assert watch.run(shop.now) == 0, "it is what was declared and granted"


def test_a_lease_that_never_came_to_be_is_no_use(shop, monkeypatch):
    def refuses(*_args, **_more):
        raise NotMinted("conflict", "Not today.")

    monkeypatch.setattr(minting, "mint", refuses)
    with pytest.raises(NotMinted):
        shop.take()

    assert usage.last_use(shop.key.pk) is None


def test_a_run_takes_some_of_what_the_key_may_do_and_never_more(shop):
    shop.take(scopes=["contents:read"])
    [token] = next(iter(shop.server.installations.values())).tokens.values()
    assert token.permissions == {"contents": "read", "metadata": "read"}

    with pytest.raises(NotMinted, match="no permission issues:write") as refused:
        shop.take(scopes=["issues:write"])
    assert refused.value.needs_person
    assert shop.living() == 1
    assert Lease.objects.filter(state=LeaseState.FAILED).count() == 1


@pytest.mark.parametrize(
    ("asked_s", "grant_s", "key_s", "option", "most_s"),
    [
        (900, 86_400, 86_400, "60", 900),
        (7_200, 86_400, 86_400, "60", 3_600),
        (7_200, 86_400, 86_400, "5", 300),
        (900, 120, 86_400, "60", 120),
        (900, 86_400, 180, "60", 180),
    ],
    ids=["asked", "provider", "the key's setting", "grant", "the key's life"],
)
def test_it_lasts_as_long_as_everything_allows(shop, asked_s, grant_s, key_s, option, most_s):
    shop.grant.ends_at = shop.now + timedelta(seconds=grant_s)
    shop.grant.save()
    shop.key.expires_at = shop.now + timedelta(seconds=key_s)
    shop.key.options = {**OPTIONS, "longest_minutes": option}
    shop.key.save()

    lent = shop.take(ttl_s=asked_s)

    # The fake writes whole seconds, so that its hour may be up to one second shorter.
    span = (lent.lease.expires_at - shop.now).total_seconds()
    assert most_s - 2 <= span <= most_s


def test_of_several_rights_the_longest_counts(shop, cast):
    shop.grant.ends_at = shop.now + timedelta(seconds=100)
    shop.grant.save()
    builders.granted(cast, cast.payments.group, shop.key, days=1)
    assert shop.take().lease.expires_at == shop.grant.ends_at, "it is in no group yet"
    with transaction.atomic():
        memberships.join(
            agent_id=shop.agent.pk,
            group=cast.payments.group,
            actor=builders.TESTS,
            now=cast.now,
            request_id=uuid4(),
        )
    assert shop.take().lease.expires_at == shop.now + timedelta(minutes=15)


def test_missing_and_forbidden_look_alike(shop, cast):
    other = builders.token(cast, builders.agent(cast, "other-bot")).token
    narrowed = builders.token(cast, shop.agent, keys=["another-key"]).token
    person = builders.token(cast, cast.alice).token
    said = set()
    for token, name in (
        (other, shop.key.name),
        (narrowed, shop.key.name),
        (person, shop.key.name),
        (shop.token, "no-such-key"),
    ):
        with pytest.raises(NotVisible) as refused:
            shop.take(token=token, name=name)
        said.add(str(refused.value).replace(name, "NAME"))
    assert len(said) == 1
    assert not Lease.objects.exists()


def test_an_agent_that_was_suspended_since_its_token_was_read_gets_nothing(shop):
    Agent.objects.update(state="suspended")
    with pytest.raises(NotVisible):
        shop.take()
    assert shop.living() == 0


def test_a_key_with_a_value_is_not_lent(shop, cast):
    kept = shop.house.pull(name="ledger-reader")
    builders.granted(cast, shop.agent, kept)
    with pytest.raises(services.NotLent, match="read at the gateway"):
        shop.take(name=kept.name)
    assert not Lease.objects.exists()


def test_a_key_that_is_past_its_lifetime_or_suspended_is_not_lent(shop):
    Key.objects.filter(pk=shop.key.pk).update(expires_at=shop.now + timedelta(seconds=1))
    with pytest.raises(services.NotLent, match="past its lifetime"):
        shop.take(now=shop.now + timedelta(seconds=2))
    Key.objects.filter(pk=shop.key.pk).update(state="suspended")
    with pytest.raises(services.NotLent, match="suspended"):
        shop.take()


def test_an_agent_holds_five_of_a_key_and_a_returned_one_makes_room(shop):
    leases = [shop.take().lease for _ in range(5)]
    with pytest.raises(services.TooManyHeld, match="5 leases"):
        shop.take()
    assert shop.living() == 5

    shop.give_back(leases[0])

    assert shop.take().lease.state == "open"


@pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.HANG])
def test_r56_a_lost_answer_leaves_an_orphan_until_it_lapses(shop, fault, monkeypatch):
    monkeypatch.setattr("keyvault.connections.context.CALL_S", 1.0)
    with shop.proxy.failing(fault, LOST), pytest.raises(NotMinted) as lost:
        shop.take()
    assert shop.proxy.hits
    assert lost.value.is_lost

    row = Lease.objects.get()
    assert (row.state, row.ended_at) == ("orphaned", None)
    assert row.lapses_at >= shop.now + timedelta(hours=1)
    assert events() == ["lease.asked", "lease.orphaned"]
    assert shop.take().lease.state == "open", "an orphan takes nobody's place"

    sweep.run(row.lapses_at)
    assert shop.state(row) == "expired"
    assert "lease.expired" in events()


def test_a_lost_request_is_treated_as_a_lost_answer_or_as_nothing(shop):
    with shop.proxy.failing(Fault.LOSE_REQUEST, LOST), pytest.raises(NotMinted):
        shop.take()
    assert shop.living() == 0
    assert Lease.objects.get().state in {"orphaned", "failed"}


@pytest.mark.parametrize(
    ("status", "needs_person", "state"),
    [(403, True, "failed"), (429, False, "failed"), (500, False, "orphaned")],
)
def test_what_the_provider_refuses_is_told_apart(shop, status, needs_person, state):
    shop.server.fail(status)
    with pytest.raises(NotMinted) as refused:
        shop.take()
    assert refused.value.needs_person is needs_person
    assert Lease.objects.get().state == state
    assert shop.sealed() == 0


def test_a_plugin_that_is_not_loaded_any_more_lends_nothing(shop, monkeypatch):
    registry._registry._loaded.pop("github_app")
    with pytest.raises(services.NotLent):
        shop.take()


@pytest.mark.parametrize("point", ["before the call", "with the value in hand", "while noting it"])
def test_r55_a_crash_at_any_point_leaves_a_row_that_the_sweep_ends(shop, monkeypatch, point):
    _crash(monkeypatch, point)
    with pytest.raises(Crash):
        shop.take()
    monkeypatch.undo()
    row = Lease.objects.get()
    assert row.state == "minting"
    assert shop.sealed() == 0

    sweep.run(shop.now + timedelta(seconds=59))
    assert shop.state(row) == "minting", "it may still be under way"
    sweep.run(shop.now + timedelta(seconds=61))
    assert shop.state(row) == "orphaned"
    sweep.run(row.lapses_at)
    assert shop.state(row) == "expired"
    assert events() == ["lease.asked", "lease.orphaned", "lease.expired"]


def _crash(monkeypatch, point: str) -> None:
    def stop(*_, **__):
        raise Crash(point)

    if point == "before the call":
        monkeypatch.setattr(minting, "mint", stop)
    elif point == "with the value in hand":
        monkeypatch.setattr(handover, "hand_over", stop)
    else:
        monkeypatch.setattr(handover, "_open", stop)


def test_an_answer_that_comes_after_the_sweep_is_ended_and_given_to_nobody(shop, monkeypatch):
    mint = minting.mint

    def slow(**asked):
        minted = mint(**asked)
        sweep.run(shop.now + timedelta(seconds=61))
        return minted

    monkeypatch.setattr(minting, "mint", slow)
    with pytest.raises(NotMinted, match="too late"):
        shop.take()
    assert shop.living() == 1

    shop.work(after_s=62)

    assert shop.living() == 0
    assert Lease.objects.get().state == "withdrawn"
    assert shop.sealed() == 0


@pytest.mark.parametrize("way", ["ended", "ran out", "forgotten"])
def test_a_token_that_ends_while_the_provider_answers_gives_nothing(shop, monkeypatch, way):
    mint = minting.mint

    def slow(**asked):
        minted = mint(**asked)
        token = AccessToken.objects.filter(pk=shop.token.pk)
        if way == "forgotten":
            token.delete()
        elif way == "ended":
            token.update(ended_at=shop.now, ended_cause="The login ended.")
        else:
            # It holds when the request begins, and by the end of the call no longer.
            token.update(expires_at=shop.now + timedelta(milliseconds=20))
            time.sleep(0.05)
        return minted

    monkeypatch.setattr(minting, "mint", slow)
    with pytest.raises(BadToken):
        shop.take()
    assert Lease.objects.get().cause == "The token that asked for it has ended."
    shop.work()
    assert (shop.living(), shop.sealed()) == (0, 0)
    assert Lease.objects.get().state == "withdrawn"
    assert usage.last_use(shop.key.pk) is None


def test_a_right_that_runs_out_while_the_provider_answers_gives_nothing(shop, monkeypatch):
    mint = minting.mint

    def slow(**asked):
        minted = mint(**asked)
        Grant.objects.update(ends_at=shop.now + timedelta(milliseconds=20))
        time.sleep(0.05)
        return minted

    monkeypatch.setattr(minting, "mint", slow)
    with pytest.raises(NotVisible):
        shop.take()
    assert "may not use" in Lease.objects.get().cause


def test_a_right_that_is_lost_while_the_provider_answers_gives_nothing(shop, monkeypatch):
    mint = minting.mint

    def slow(**asked):
        minted = mint(**asked)
        Agent.objects.update(state="suspended")
        return minted

    monkeypatch.setattr(minting, "mint", slow)
    with pytest.raises(NotVisible):
        shop.take()
    shop.work()
    assert shop.living() == 0
    assert Lease.objects.get().cause == f"{shop.agent.name} is suspended."
