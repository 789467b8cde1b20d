"""Teams, roles and memberships with a memory; never fewer than two administrators."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from keyvault.accounts import administrators, selectors, services
from keyvault.accounts.directory import Directory
from keyvault.accounts.models import Membership, User
from tests import cast as people


def test_the_cast_belongs_where_the_stories_say(cast):
    assert selectors.is_in(cast.alice, "payments")
    assert selectors.has_role(cast.dave, "auditors")
    assert not selectors.has_role(cast.alice, "payments")
    assert not selectors.teams_of(cast.mallory).exists()
    assert not selectors.solo()


def test_groups_of_a_person_follow_live_memberships_at_once(cast):
    assert [group.name for group in cast.bob.groups.all()] == ["security"]
    people.leave(cast.bob, "security", now=cast.now)
    assert not cast.bob.groups.all()


def test_leaving_keeps_the_stay_and_joining_again_opens_a_second(cast):
    people.leave(cast.bob, "security", now=cast.now)
    people.join(cast.bob, "security", now=cast.now + timedelta(hours=1))
    stays = list(selectors.history(cast.bob))
    assert [stay.left_at is None for stay in stays] == [True, False]


def test_a_person_joins_a_group_once(cast):
    with pytest.raises(services.AlreadyMember):
        people.join(cast.bob, "security", now=cast.now)


def test_the_database_refuses_two_live_stays(cast):
    row = Membership.objects.get(user=cast.bob)
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.create(user=cast.bob, group=row.group, joined_at=cast.now)


def test_the_directory_names_members_with_the_day_they_joined(cast):
    members = Directory().members(["payments", "security"])
    assert {(member.person_id, member.group) for member in members} == {
        (cast.alice.pk, "payments"),
        (cast.carol.pk, "payments"),
        (cast.bob.pk, "security"),
    }
    assert all(member.joined_at == cast.now - people.JOINED_AGO for member in members)


def test_r15_accounts_of_one_mailbox_are_linked(cast, now):
    with transaction.atomic():
        twin = services.create_user(
            username="alice2", name="A", email="Alice+two@Example.com", now=now, actor=people.HOST
        )
    standings = Directory().standings([cast.alice.pk, twin.pk, cast.bob.pk])
    assert standings[cast.alice.pk].linked == {twin.pk}
    assert standings[twin.pk].linked == {cast.alice.pk}
    assert standings[cast.bob.pk].linked == frozenset()
    assert not standings[twin.pk].enrolled


def test_user_names_have_one_spelling():
    assert User.objects.model.USERNAME_FIELD == "username"
    assert selectors.names.username("  \uff32oOT ") == "root"


@pytest.mark.parametrize("bad", ["", "a b", "ünal", "a/b", "..", "x" * 64, "a\x00b"])
def test_user_names_of_another_shape_are_refused(bad):
    with pytest.raises(selectors.names.BadName):
        selectors.names.username(bad)


def test_two_administrators_stay(cast):
    with pytest.raises(administrators.LastAdministrators):
        people.leave(cast.grace, "administrators", now=cast.now)
    with pytest.raises(administrators.LastAdministrators), transaction.atomic():
        services.deactivate(user=cast.frank, now=cast.now, actor=people.HOST)


def test_a_third_administrator_lets_one_go(cast):
    people.join(cast.dave, "administrators", now=cast.now)
    people.leave(cast.grace, "administrators", now=cast.now)
    assert not selectors.has_role(cast.grace, "administrators")


def test_an_administrator_without_a_factor_does_not_count(cast):
    with transaction.atomic():
        unenrolled = people.person("ivan", now=cast.now, enrolled=False)
    people.join(unenrolled, "administrators", now=cast.now)
    with pytest.raises(administrators.LastAdministrators):
        people.leave(cast.grace, "administrators", now=cast.now)


def test_two_ends_of_sessions_at_once_both_count(cast):
    first, second = (User.objects.get(pk=cast.grace.pk) for _ in range(2))
    with transaction.atomic():
        services.end_sessions(user=first, now=cast.now, actor=people.HOST)
        services.reset_factor(user=second, now=cast.now, actor=people.HOST)
    assert User.objects.get(pk=cast.grace.pk).session_epoch == cast.grace.session_epoch + 2


def test_solo_mode_never_returns(cast):
    with transaction.atomic():
        services.reset_factor(user=cast.grace, now=cast.now, actor=people.HOST)
    assert administrators.enrolled().count() == 1
    assert not selectors.solo()


@pytest.mark.django_db(transaction=True)
def test_of_two_administrators_who_leave_at_once_one_stays_for_the_third(cast):
    people.join(cast.dave, "administrators", now=cast.now)
    outcomes = []
    barrier = threading.Barrier(2)

    def leave(user):
        barrier.wait()
        try:
            people.leave(user, "administrators", now=cast.now)
            outcomes.append("left")
        except administrators.LastAdministrators:
            outcomes.append("stayed")
        finally:
            connection.close()

    threads = [threading.Thread(target=leave, args=(who,)) for who in (cast.frank, cast.grace)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["left", "stayed"]
