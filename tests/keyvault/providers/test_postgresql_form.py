"""What the PostgreSQL provider fills in for somebody who does not know the server."""

from __future__ import annotations

import pytest

from keyvault.providers.postgresql import schema


@pytest.mark.parametrize(
    ("name", "login"),
    [("orders-triage", "orders_triage"), ("pg-reader", "key_pg_reader"), ("plain", "plain")],
)
def test_the_login_name_comes_from_the_name_of_the_key(name, login):
    assert schema.proposed({}, name) == {"login_prefix": login}


def test_the_owner_role_comes_from_the_connection():
    assert schema.proposed({"owner_role": "billing_owner"}, "") == {"owner_role": "billing_owner"}


def test_every_proposed_setting_is_one_of_the_form():
    names = {field.name for field in schema.OPTIONS}
    assert set(schema.proposed({"owner_role": "o"}, "n")) <= names
