"""A real gateway and its log of reads: nothing goes out without a record, and faults are recorded too."""

from __future__ import annotations

import httpx
import pytest
from django.utils import timezone

from keyvault.audit import denials
from keyvault.audit.models import Denial, Event
from keyvault.audit.reads.models import ReadEvent
from keyvault.vault.models import Sealed
from tests import cleartext
from tests.keyvault.gateway import builders, harness

pytestmark = pytest.mark.django_db(transaction=True)

LONG_S = 30


def _read(gateway, deal, path: str = "/v1/keys/ledger-reader", **headers: str) -> httpx.Response:
    return cleartext.get(gateway.url + path, headers={**deal.headers, **headers}, timeout=5)


@pytest.fixture
def real(django_db_setup, keys, tmp_path):
    """Return a gateway with the log that an installation has."""
    with harness.running(tmp_path, keys.path, application=harness.REAL) as started:
        yield started[0]


def _spoil(gateway) -> None:
    """Take the files away and let no others be made: a directory that others may enter is refused."""
    gateway.segments.chmod(0o755)
    for path in gateway.segments.iterdir():
        path.unlink()


@pytest.mark.parametrize("mode", ["durable", "process"])
def test_without_a_log_no_door_hands_anything_out(django_db_setup, keys, tmp_path, cast, mode):
    with harness.running(
        tmp_path, keys.path, application=harness.REAL, KEYVAULT_GATEWAY_AUDIT=mode
    ) as started:
        gateway, deal = started[0], builders.deal(cast)
        builders.until(lambda: _read(gateway, deal).status_code == 200)

        _spoil(gateway)

        builders.until(lambda: _read(gateway, deal).status_code == 503, LONG_S)
        vault = {"X-Vault-Token": deal.token}
        for refused in (
            _read(gateway, deal),
            _read(gateway, deal, "/v1/keys?names=ledger-reader"),
            _read(gateway, deal, "/v1/secret/data/ledger-reader", **vault),
        ):
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) >= 1
            assert "s3cret" not in refused.text
        gateway.segments.chmod(0o700)
        builders.until(lambda: _read(gateway, deal).status_code == 200, LONG_S)
        assert "s3cret" not in gateway.output()


def test_every_read_that_was_answered_around_the_failure_is_on_record(real, cast):
    deal, statuses = builders.deal(cast), []

    def says(status: int) -> bool:
        statuses.append(_read(real, deal).status_code)
        return statuses[-1] == status

    builders.until(lambda: says(200))
    _spoil(real)
    builders.until(lambda: says(503), LONG_S)
    real.segments.chmod(0o700)
    builders.until(lambda: says(200), LONG_S)

    assert set(statuses) <= {200, 401, 503}
    recorded = ReadEvent.objects.filter(agent_id=deal.agent.pk, number=1)
    builders.until(lambda: recorded.count() >= statuses.count(200), LONG_S)


def test_r3_a_row_that_was_moved_to_another_key_opens_nothing_and_is_in_the_ledger(real, cast):
    deal, other = builders.deal(cast), builders.delivered(cast, "other-key", "0ther-value")
    builders.until(lambda: _read(real, deal).status_code == 200)
    theirs = Sealed.objects.get(subject_id=other.pk)
    Sealed.objects.filter(subject_id=deal.key.pk).update(blob=bytes(theirs.blob))

    builders.until(lambda: _read(real, deal).status_code == 500, LONG_S)

    refused = _read(real, deal)
    assert "value" not in refused.json()
    assert "0ther" not in refused.text + real.output()
    # Counts reach the database every 15 s.
    builders.until(Denial.objects.exists, LONG_S)
    denials.flush(timezone.now(), is_forced=True)
    event = Event.objects.get(event="crypto.context_mismatch")
    assert (event.subject_kind, event.subject_id) == ("key", str(deal.key.pk))
    assert event.outcome == "error"
    assert event.fields == {
        "kind": "key",
        "number": 1,
        "field": "value",
        "purpose": "gateway read",
    }
