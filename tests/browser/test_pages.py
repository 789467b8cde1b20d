"""Every page of the console, in both themes and widths: axe, console, content policy, reflow."""

from __future__ import annotations

import pytest
from django.urls import reverse

from keyvault.connections.models import ShadowKey
from tests.approvals.conftest import house, world
from tests.browser import harness, scenes

__all__ = ["house", "world"]

pytestmark = pytest.mark.django_db(transaction=True)


def _key(name, **query):
    return lambda scene: reverse(name, args=[scene.key.name], query=query)


def _request(name):
    return lambda scene: reverse("request", args=[getattr(scene, name).pk])


def _at(name, *args, **query):
    return lambda _: reverse(name, args=args, query=query)


def _shadow():
    return ShadowKey.objects.order_by("-remote_id").first().pk


PAGES = {
    "overview": ("frank", _at("overview")),
    "overview-owner": ("alice", _at("overview")),
    "overview-approver": ("bob", _at("overview")),
    "overview-auditor": ("dave", _at("overview")),
    "system": ("frank", _at("system")),
    "search": ("alice", _at("search", q="key")),
    "approvals": ("bob", _at("approvals")),
    "request-decide": ("carol", _request("waiting")),
    "request-mine": ("alice", _request("returned")),
    "request-done": ("alice", _request("done")),
    "requests": ("alice", _at("requests")),
    "request-new": ("alice", _at("request-new")),
    "request-form": ("alice", _at("request-new", connection="ledger-db")),
    "adopt": ("alice", _at("adopt")),
    "adopt-form": ("alice", _at("adopt", connection="ledger-db")),
    "adopt-shadow": ("frank", lambda _: f"{reverse('adopt')}?shadow={_shadow()}"),
    "keys": ("alice", _at("keys")),
    "keys-filtered-empty": ("alice", _at("keys", q="nothing-like-it")),
    "key": ("alice", _key("key")),
    "key-long": ("alice", _at("key", scenes.LONG_NAME)),
    "key-versions": ("alice", _key("key-versions")),
    "key-adopted": ("alice", _at("key-versions", "adopted-key")),
    "key-access": ("alice", _key("key-access")),
    "key-history": ("alice", _key("key-history")),
    "key-revoke": ("alice", _key("key-revoke")),
    "key-reveal": ("alice", _key("key-reveal")),
    "key-agents": ("alice", _at("key-agents", "mail-sender")),
    "key-change": ("alice", _at("key-change", "mail-sender")),
    "key-pull": ("alice", _at("key", "mail-sender")),
    "key-pull-access": ("alice", _at("key-access", "mail-sender")),
    "key-lent": ("alice", _at("key", "shop-repository")),
    "key-leases": ("alice", _at("key-leases", "shop-repository")),
    "key-no-leases": ("frank", _at("key-leases", "quiet-repository")),
    "request-form-lent": ("alice", _at("request-new", connection="github")),
    "agents": ("alice", _at("agents")),
    "agents-filtered-empty": ("alice", _at("agents", q="nothing-like-it")),
    "agent-new": ("alice", _at("agent-new")),
    "agent": ("alice", _at("agent", "refund-bot")),
    "agent-long": ("alice", _at("agent", scenes.LONG_AGENT)),
    "agent-contained": ("erin", _at("agent", "night-watch")),
    "agent-authentication": ("alice", _at("agent-authentication", "refund-bot")),
    "agent-history": ("alice", _at("agent-history", "refund-bot")),
    "agent-edit": ("alice", _at("agent-edit", "refund-bot")),
    "agent-owner": ("alice", _at("agent-owner", "refund-bot")),
    "agent-suspend": ("alice", _at("agent-suspend", "refund-bot")),
    "agent-access": ("alice", _at("agent-access", "refund-bot")),
    "agent-join": ("alice", _at("agent-join", "refund-bot")),
    "agent-secret": ("alice", _at("agent-secret", "refund-bot")),
    "agent-key": ("alice", _at("agent-key", "refund-bot")),
    "agent-bind": ("alice", _at("agent-bind", "refund-bot")),
    "trusts": ("frank", _at("trusts")),
    "trust-new": ("frank", _at("trust-new")),
    "trust-change": ("frank", _at("trust-change", "github")),
    "trust-end": ("frank", _at("trust-end", "github")),
    "connections": ("frank", _at("connections")),
    "connection-new": ("frank", _at("connection-new")),
    "connection": ("frank", _at("connection", "ledger-db")),
    "people": ("frank", _at("people")),
    "person": ("frank", lambda scene: reverse("person", args=[scene.house.cast.alice.pk])),
    "invitations": ("frank", _at("invitations")),
    "invite-new": ("frank", _at("invite-new")),
    "account": ("alice", _at("account")),
    "audit": ("dave", _at("audit")),
    "audit-open": ("dave", _at("audit", open="20")),
    "audit-mends": ("dave", _at("audit", q="actr:alice")),
    "audit-event": ("dave", _at("audit-event", 20)),
    "audit-verify": ("dave", _at("audit-verify")),
    "audit-export": ("dave", _at("audit-export")),
}
EMPTY = (
    "overview",
    "overview-owner",
    "overview-auditor",
    "system",
    "search",
    "approvals",
    "requests",
    "request-new",
    "keys",
    "agents",
    "trusts",
    "connections",
    "people",
    "audit",
)


PEOPLE = tuple(dict.fromkeys(person for person, _ in PAGES.values()))


def _faults(page, watch, address, name):
    """Return what is wrong with the page at an address."""
    page.goto(address)
    return harness.faults(page, watch, name)


@pytest.mark.parametrize("person", PEOPLE)
def test_busy_pages_are_clean(house, signed_in_page, watch, person):
    scene = scenes.busy(house)
    page = signed_in_page(getattr(house.cast, person))
    watch.expect("status of 422")

    faults = [
        fault
        for name, (reader, address) in PAGES.items()
        if reader == person
        for fault in _faults(page, watch, address(scene), name)
    ]

    assert faults == []


@pytest.mark.parametrize("person", PEOPLE)
def test_empty_pages_are_clean(house, signed_in_page, watch, person):
    page = signed_in_page(getattr(house.cast, person))

    faults = [
        fault
        for name in EMPTY
        if PAGES[name][0] == person
        for fault in _faults(page, watch, PAGES[name][1](None), f"{name}-empty")
    ]

    assert faults == []
