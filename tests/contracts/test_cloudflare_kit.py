"""The vendor's own library drives our fake of Cloudflare, so that its shapes are the vendor's."""

from __future__ import annotations

from collections.abc import Iterator

import cloudflare
import pytest

from tests.contracts.vendors.cloudflare_server import DNS_READ, CloudflareServer
from tests.contracts.vendors.server import serving


@pytest.fixture
def server() -> Iterator[CloudflareServer]:
    with serving(CloudflareServer()) as running:
        yield running


def kit(server, token):
    return cloudflare.Cloudflare(api_token=token, base_url=server.api, max_retries=0)


def test_the_kit_makes_lists_tries_and_ends_a_token(server):
    account = server.add_account().id
    admin = kit(server, server.admin)
    policy = {
        "effect": "allow",
        "permission_groups": [{"id": DNS_READ}],
        "resources": {f"com.cloudflare.api.account.{account}": "*"},
    }

    made = admin.accounts.tokens.create(account_id=account, name="kv-a-1", policies=[policy])
    assert made.status == "active"
    assert made.policies[0].permission_groups[0].id == DNS_READ

    verified = kit(server, made.value).accounts.tokens.verify(account_id=account)
    assert (verified.id, verified.status) == (made.id, "active")
    read = admin.accounts.tokens.get(made.id, account_id=account)
    assert read.last_used_on is not None

    for number in range(7):
        server.add_token(server.accounts[account], f"person {number}")
    names = [
        token.name
        for token in admin.accounts.tokens.list(account_id=account, per_page=5, direction="asc")
    ]
    assert names == ["kv-a-1", *(f"person {number}" for number in range(7))]
    groups = [
        group.id for group in admin.accounts.tokens.permission_groups.list(account_id=account)
    ]
    assert DNS_READ in groups

    assert admin.accounts.tokens.delete(made.id, account_id=account).id == made.id
    with pytest.raises(cloudflare.NotFoundError):
        admin.accounts.tokens.delete(made.id, account_id=account)
    with pytest.raises(cloudflare.AuthenticationError):
        kit(server, made.value).accounts.tokens.verify(account_id=account)


def test_the_kit_shows_why_a_value_is_never_renewed_in_place(server):
    """The old value ends in the very call that brings the new one."""
    account = server.add_account()
    token, old = server.add_token(account, "person")
    admin = kit(server, server.admin)

    new = admin.accounts.tokens.value.update(token.id, account_id=account.id)

    with pytest.raises(cloudflare.AuthenticationError):
        kit(server, old).accounts.tokens.verify(account_id=account.id)
    assert kit(server, new).accounts.tokens.verify(account_id=account.id).id == token.id
