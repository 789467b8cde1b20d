"""The usage of a key and of an agent in a real browser: both themes, both widths, and narrow."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keyvault.inventory.models import Key
from keyvault.usage import services, watch
from keyvault.usage.models import UsageKind
from keyvault.usage.services import Reported
from tests.keyvault.agents import builders as agents
from tests.keyvault.inventory import builders as keys
from tests.keyvault.usage.building import used

pytestmark = pytest.mark.django_db(transaction=True)
PAGES = {
    "usage": "/keys/ledger-reader/usage/",
    "usage-overview": "/keys/ledger-reader/",
    "usage-agent": "/agents/refund-bot/",
    "usage-none": "/keys/quiet-key/usage/",
    "usage-revoke": "/keys/ledger-reader/revoke/",
}
LONG = "a" * 60 + "." + "b" * 60 + ".example.com"


@pytest.fixture
def busy(cast, now):
    """A key with a month of use by three agents and a person, some of it not as declared."""
    key = keys.live(cast, delivery_mode="pull")
    Key.objects.filter(pk=key.pk).update(volume_per_day=4000)
    keys.live(cast, name="quiet-key")
    bots = [agents.agent(cast, name) for name in ("refund-bot", "ledger-sync", "x" * 47 + "y")]
    for bot in bots[:2]:
        agents.granted(cast, bot, key)
    for back in range(0, 30 * 24, 3):
        at = now - timedelta(hours=back)
        used(at, key_id=key.pk, agent=bots[0], host="db.example.com", count=200 + back % 37 * 9)
        used(at, key_id=key.pk, agent=bots[1], host="192.0.2.7", count=3, kind=UsageKind.GATEWAY)
    used(now, key_id=key.pk, agent=bots[2], host="198.51.100.23", kind=UsageKind.GATEWAY)
    used(now - timedelta(days=2), key_id=key.pk, user=cast.alice, count=4)
    services.report(
        principal=bots[0],
        events=[
            Reported("ledger-reader", now, host=LONG, count=9000, number=2),
            Reported("ledger-reader", now),
        ],
        now=now,
    )
    watch.run(now)
    return cast


def test_the_pages_of_usage_are_clean(busy, signed_in_page, judged):
    page = signed_in_page(busy.alice)

    for name, address in PAGES.items():
        page.goto(address)
        judged(page, name)
