"""Heartbeats over real HTTP: what an agent has loaded is known, by its own rights only."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from django.db import connection, transaction
from django.utils import timezone

from keyvault.invalidation.models import GatewayInstance
from keyvault.inventory import grants
from keyvault.usage import loaded
from keyvault.usage.models import LoadedVersion
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders, harness

pytestmark = pytest.mark.django_db(transaction=True)

LONG_S = 30


def _deal(cast) -> builders.Deal:
    """Return a deal that no earlier test has left in the shared gateway."""
    key = builders.delivered(cast, f"key-{uuid4().hex[:12]}")
    agent = agents.agent(cast, f"bot-{uuid4().hex[:12]}")
    grant, issued = agents.granted(cast, agent, key), agents.token(cast, agent)
    return builders.Deal(agent, key, grant, issued.text.reveal().decode(), issued)


def _beat(gateway, deal, keys: object, **more: object) -> httpx.Response:
    content = {"keys": keys, **more}
    return cleartext.post(f"{gateway.url}/v1/heartbeat", headers=deal.headers, json=content)


def _first(gateway, deal, version: int = 1) -> httpx.Response:
    """Report a version, once the gateway has heard of the deal."""

    def accepted() -> httpx.Response | None:
        found = _beat(gateway, deal, {deal.key.name: version})
        return found if found.status_code == 200 else None

    return builders.until(accepted, LONG_S)


def _known(deal) -> list[tuple[str, int, bool]]:
    return [(row.agent, row.number, row.is_healthy) for row in loaded.by_key(deal.key.pk)]


def test_what_an_agent_has_loaded_is_known_version_by_version(gateway, cast):
    deal = _deal(cast)
    builders.add_version(cast, deal.key, "s3cret-2")
    reads = len(gateway.logged())

    told = builders.until(lambda: _told(_first(gateway, deal), deal, 2), LONG_S)
    _beat(gateway, deal, {deal.key.name: 2}, healthy=False)

    assert told.json() == {"keys": [{"key": deal.key.name, "version": 2}]}
    expected = [(deal.agent.name, 2, False), (deal.agent.name, 1, True)]
    builders.until(lambda: _known(deal) == expected, LONG_S)
    assert "s3cret" not in told.text
    assert not any(line.startswith(deal.key.name) for line in gateway.logged()[reads:])


def _told(answer: httpx.Response, deal, version: int) -> httpx.Response | None:
    return answer if answer.json()["keys"][0]["version"] == version else None


def test_a_later_report_moves_the_last_time_and_not_the_first(gateway, cast):
    deal = _deal(cast)
    _first(gateway, deal)
    first = builders.until(lambda: loaded.by_key(deal.key.pk), LONG_S)[0]

    _beat(gateway, deal, {deal.key.name: 1}, healthy=False)

    builders.until(lambda: not loaded.by_key(deal.key.pk)[0].is_healthy, LONG_S)
    later = loaded.by_key(deal.key.pk)
    assert [row.first_at for row in later] == [first.first_at]
    assert later[0].last_at > first.last_at


def test_a_report_about_a_key_that_is_not_granted_is_refused_like_a_read(gateway, cast):
    deal = _deal(cast)
    hidden = builders.delivered(cast, f"key-{uuid4().hex[:12]}")
    _first(gateway, deal)

    for name in (hidden.name, "never-heard-of"):
        beat = _beat(gateway, deal, {deal.key.name: 1, name: 1}).json()
        read = cleartext.get(
            f"{gateway.url}/v1/keys?names={deal.key.name},{name}", headers=deal.headers
        ).json()
        assert (beat.pop("status"), read.pop("status")) == (404, 404)
        assert beat.pop("request_id") != read.pop("request_id")
        assert beat == read
    assert not LoadedVersion.objects.filter(key_id=hidden.pk).exists()


@pytest.mark.parametrize("other", ["not granted", "unknown", "ahead", "ended"])
def test_of_a_report_that_is_refused_for_one_key_nothing_is_kept(gateway, cast, other):
    deal = _deal(cast)
    _first(gateway, deal)
    builders.until(lambda: _known(deal) == [(deal.agent.name, 1, True)], LONG_S)
    before = loaded.by_key(deal.key.pk)
    name, version = _other_key(gateway, cast, deal, other)

    refused = _beat(gateway, deal, {deal.key.name: 1, name: version}, healthy=False)

    assert refused.status_code == (400 if other == "ahead" else 404), refused.text
    assert deal.key.name not in refused.text
    # What comes later is written at the earliest with what came before.
    later = _deal(cast)
    _first(gateway, later)
    builders.until(lambda: _known(later), LONG_S)
    assert loaded.by_key(deal.key.pk) == before


def _other_key(gateway, cast, deal, what: str) -> tuple[str, int]:
    """Return a key beside that of the deal, and the version of a report that is to be refused."""
    if what == "unknown":
        return "never-heard-of", 1
    key = builders.delivered(cast, f"key-{uuid4().hex[:12]}")
    if what == "not granted":
        return key.name, 1
    grant = agents.granted(cast, deal.agent, key)
    builders.until(lambda: _beat(gateway, deal, {key.name: 1}).status_code == 200, LONG_S)
    if what == "ended":
        with transaction.atomic():
            grants.end_grant(grant=grant, actor=agents.TESTS, now=cast.now)
        builders.until(lambda: _beat(gateway, deal, {key.name: 1}).status_code == 404, LONG_S)
    return key.name, 2 if what == "ahead" else 1


def test_nobody_reports_without_a_token_of_an_agent(gateway, cast):
    deal = _deal(cast)
    person = agents.token(cast, cast.alice).text.reveal().decode()
    _first(gateway, deal)

    content = {"keys": {deal.key.name: 1}}
    url = f"{gateway.url}/v1/heartbeat"
    assert cleartext.post(url, json=content).status_code == 401
    headers = {"Authorization": f"Bearer {person}"}
    builders.until(
        lambda: cleartext.post(url, json=content, headers=headers).status_code == 403, LONG_S
    )
    assert cleartext.get(url, headers=deal.headers).status_code == 405


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": {"a-key": 0}}', b'{"keys": {"a-key": "1"}}',
        b'{"keys": {"a-key": 1}, "x": 1}', b'{"keys": {"a-key": 1.5}}', b"\xff", b'{"keys": {"../x": 1}}',
        b'{"keys": {"a-key": 1e99}}', b"[" * 60_000, b'{"keys": {"a-key": true}}',
    ],
)  # fmt: skip
def test_what_is_no_report_is_refused_with_the_rule(gateway, cast, body):
    deal = _deal(cast)
    _first(gateway, deal)

    answer = cleartext.post(f"{gateway.url}/v1/heartbeat", headers=deal.headers, content=body)

    assert answer.status_code == 400


def test_a_version_that_does_not_exist_yet_cannot_be_loaded(gateway, cast):
    deal = _deal(cast)
    _first(gateway, deal)

    answer = _beat(gateway, deal, {deal.key.name: 2})

    assert answer.status_code == 400
    assert "no version 2" in answer.json()["detail"]


def test_bodies_that_are_too_large_or_too_slow_are_refused(gateway, cast):
    deal = _deal(cast)
    _first(gateway, deal)

    large = cleartext.post(
        f"{gateway.url}/v1/heartbeat", headers=deal.headers, content=b"x" * 70_000
    )
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=LONG_S) as link:
        link.sendall(b"POST /v1/heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        slow = link.recv(100)

    assert large.status_code == 413
    assert slow.startswith(b"HTTP/1.1 408")


def test_many_agents_report_at_once_and_each_is_kept_once(gateway, cast):
    deals = [_deal(cast) for _ in range(8)]
    threads = [threading.Thread(target=_first, args=(gateway, deal)) for deal in deals * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    builders.until(lambda: all(_known(deal) == [(deal.agent.name, 1, True)] for deal in deals), 30)


def test_what_was_reported_is_written_when_the_gateway_stops(django_db_setup, keys, tmp_path, cast):
    deal = _deal(cast)
    with harness.running(tmp_path, keys.path) as started:
        _first(started[0], deal)

    assert _known(deal) == [(deal.agent.name, 1, True)]
    assert "Traceback" not in started[0].output()


def test_a_table_that_is_locked_keeps_no_gateway_from_stopping(
    django_db_setup, keys, tmp_path, cast
):
    deal = _deal(cast)
    with harness.running(tmp_path, keys.path) as started:
        _first(started[0], deal)
        builders.until(lambda: _known(deal), LONG_S)
        worker = started[0].worker()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("LOCK TABLE keyvault_loadedversion")
            assert _beat(started[0], deal, {deal.key.name: 1}).status_code == 200
            started[0].stop()

            assert GatewayInstance.objects.get(name__endswith=f":{worker}").ended_at is not None


def test_what_nobody_has_said_for_a_month_is_deleted(cast):
    deal, now = _deal(cast), timezone.now()
    for number, days in ((1, 31), (2, 29)):
        at = now - timedelta(days=days)
        LoadedVersion.objects.create(
            key=deal.key, agent=deal.agent, number=number, is_healthy=True, first_at=at, last_at=at
        )

    assert loaded.forget(now=now) == 1
    assert _known(deal) == [(deal.agent.name, 2, True)]


def test_the_page_of_the_versions_shows_who_has_loaded_them(cast, client_for):
    deal, now = _deal(cast), timezone.now()
    page = f"/keys/{deal.key.name}/versions/"
    owner = client_for(cast.alice)
    assert "No agent has said so" in owner.get(page).content.decode()
    LoadedVersion.objects.create(
        key=deal.key, agent=deal.agent, number=1, is_healthy=False, first_at=now, last_at=now
    )

    shown = owner.get(page).content.decode().partition('id="loaded"')[2]

    assert deal.agent.name in shown
    assert "Not healthy" in shown
