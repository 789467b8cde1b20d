"""What has served its time goes; what still counts stays."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse

from keyvault.accounts import lockout, tidying
from keyvault.accounts.devices import Lockout, StepUp, TOTPDevice
from tests import cast as people

pytestmark = pytest.mark.django_db


def test_a_day_later_nothing_is_left_but_the_people(cast, client_for):
    client_for(cast.alice)
    people.proof_for(cast.alice, digest="a" * 64, now=cast.now)
    Client().post(reverse("login"), {"username": "alice", "password": "wrong"})
    tidying.tidy(now=cast.now)
    assert Session.objects.exists()
    assert Lockout.objects.exists()
    assert StepUp.objects.exists()
    tidying.tidy(now=cast.now + timedelta(days=1, minutes=1))
    assert not Session.objects.exists()
    assert not Lockout.objects.exists()
    assert not StepUp.objects.exists()
    assert TOTPDevice.objects.count() == len(people.PEOPLE)


def test_neighbours_in_one_ipv6_subscriber_share_a_count():
    one, other = "2001:db8:1:2::1", "2001:db8:1:2:ffff::9"
    assert lockout.address_bucket(one) == lockout.address_bucket(other)
    assert lockout.address_bucket(one) != lockout.address_bucket("2001:db8:1:3::1")
    assert lockout.address_bucket("192.0.2.1") != lockout.address_bucket("192.0.2.2")
    assert lockout.address_bucket("") == lockout.address_bucket("")


def test_an_ipv4_address_in_the_form_of_ipv6_is_itself():
    assert lockout.address_bucket("::ffff:192.0.2.1") == lockout.address_bucket("192.0.2.1")
    assert lockout.address_bucket("::ffff:192.0.2.1") != lockout.address_bucket("::ffff:192.0.2.2")
