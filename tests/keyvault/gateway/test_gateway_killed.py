"""`kill -9` of a real gateway under load: every read that was answered is on record and provable."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from django.db.models import Count
from django.utils import timezone

from keyvault.audit import verify
from keyvault.audit.reads.models import ReadEvent, ReadSegment
from keyvault.gateway.records import Mode
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders, harness
from tests.keyvault.gateway.crowding import CONNECTIONS, Crowd
from tests.keyvault.gateway.reading import recovered
from tests.keyvault.gateway.test_killed import prove_some

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

READERS = 6
LEAST = 7  # answers that each has in a life before it is ended
LONG_S = 60


@dataclass(eq=False)
class Reader(threading.Thread):
    """One asker with a token of its own, one read after the other, until its gateway is gone."""

    url: str
    issued: object
    answered: int = 0
    refused: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Be a thread."""
        super().__init__(daemon=True)

    def run(self) -> None:
        """Count every answer that came back whole."""
        headers = {"Authorization": f"Bearer {self.issued.text.reveal().decode()}"}
        with cleartext.Client(base_url=self.url, headers=headers, timeout=LONG_S) as client:
            while True:
                try:
                    found = client.get("/v1/keys/ledger-reader")
                except httpx.HTTPError:
                    return
                if found.status_code != 200:
                    self.refused.append(found.status_code)
                    return
                assert found.json()["value"] == "s3cret-1"
                self.answered += 1


def _life(gateway: harness.Gateway, tokens: list, crowds: list[Crowd], cast=None) -> list[Reader]:
    """Start the gateway, read from it, kill it in the midst of that; return the readers.

    cast: whose crowd reads beside them, if any does.
    """
    gateway.start()
    readers = [Reader(gateway.url, issued) for issued in tokens]
    crowds += [Crowd(cast, gateway)] if cast else []
    for reader in readers:
        reader.start()
    builders.until(lambda: min(reader.answered for reader in readers) >= LEAST, LONG_S)
    gateway.kill()
    for reader in readers:
        reader.join(LONG_S)
    if cast:
        crowds[-1].end()
    return readers


def _survives(
    cast, directory: Path, keys: Path, mode: Mode, times: int, *, is_crowded: bool = False
) -> None:
    deal = builders.deal(cast)
    environment = {"KEYVAULT_GATEWAY_AUDIT": mode.value, "KEYVAULT_GATEWAY_AGENT_RATE": "1000000"}
    gateway = harness.Gateway(directory, keys, application=harness.REAL, environment=environment)
    readers: list[Reader] = []
    crowds: list[Crowd] = []
    for _ in range(times):
        tokens = [agents.token(cast, deal.agent) for _ in range(READERS)]
        readers += _life(gateway, tokens, crowds, cast if is_crowded else None)
    recovered(gateway.segments)

    _are_recorded(readers, crowds)
    assert list(gateway.segments.iterdir()) == []
    prove_some(list(ReadSegment.objects.values_list("process", flat=True).distinct()))
    result = verify.verify(timezone.now())
    assert result.problems == []
    answered = sum(asker.answered for asker in [*readers, *crowds])
    sys.stdout.write(
        f"{times} kills, mode {mode}: {answered} answered, {result.reads} recorded, 0 lost\n"
    )


def _are_recorded(readers: list[Reader], crowds: list[Crowd]) -> None:
    """Compare what was answered with what is on record.

    More may be recorded: what was written down and then cut off by the kill.
    """
    recorded = dict(ReadEvent.objects.values_list("token").annotate(n=Count("seq")))
    for reader in readers:
        assert reader.refused == []
        assert recorded[reader.issued.token.public_id] - reader.answered in {0, 1}
    for crowd in crowds:
        # A read on each connection, and the one that was made before it began.
        assert 1 <= recorded[crowd.token] - crowd.answered <= 1 + CONNECTIONS


@pytest.mark.parametrize("mode", Mode)
def test_every_answered_read_survives_two_kills_of_the_gateway(keys, tmp_path, cast, signer, mode):
    _survives(cast, tmp_path, keys.path, mode, 2)


@pytest.mark.campaign
@pytest.mark.parametrize("mode", Mode)
def test_every_answered_read_survives_twenty_kills_of_the_gateway(
    keys, tmp_path, cast, signer, mode
):
    _survives(cast, tmp_path, keys.path, mode, 20, is_crowded=True)
