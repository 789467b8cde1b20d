"""Health pages: what machines are told, and who is told nothing."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from approvals import queue
from keyvault import readiness
from keyvault.crypto import keyring
from keyvault.readiness import Readiness, Status

GOOD = {"has_database": True, "has_queue_server": True, "is_sealed": False}


@pytest.fixture
def queue_server(monkeypatch):
    """A queue server that answers; the tests of the launcher stop a real one."""
    monkeypatch.setattr(readiness, "ping_queue_server", lambda _url: True)


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, Status.READY),
        ({"has_queue_server": False}, Status.DEGRADED),
        ({"oldest_due_s": 61.0}, Status.DEGRADED),
        ({"oldest_due_s": 59.0}, Status.READY),
        ({"unsequenced_s": 61.0}, Status.DEGRADED),
        ({"is_sealed": True, "has_queue_server": False}, Status.SEALED),
        ({"has_database": False, "is_sealed": True}, Status.UNREADY),
    ],
)
def test_only_no_database_and_no_key_take_it_out_of_service(facts, status):
    assert Readiness(**{**GOOD, **facts}).status is status


def test_healthz_looks_at_nothing_else(client, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        response = client.get("/healthz")

    assert response.json() == {"status": "ok"}


def test_readyz_says_ready(client, db, queue_server):
    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json()["status"] == "ready"


def test_r05_readyz_says_sealed_and_nothing_more(client, db, queue_server):
    keyring.uninstall("The key file /secret/place is missing.")

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json() == {"status": "sealed"}


def test_readyz_without_a_database_is_503(client, monkeypatch, db, queue_server):
    def broken():
        raise DatabaseError("gone")

    monkeypatch.setattr(connection, "cursor", broken)

    response = client.get("/readyz")

    assert response.status_code == 503
    assert response.json()["checks"]["database"] is False


def test_a_silent_queue_server_only_degrades(client, db, monkeypatch):
    monkeypatch.setattr(readiness, "ping_queue_server", lambda _url: False)

    response = client.get("/readyz")

    assert response.status_code == 200
    assert response.json()["status"] == "degraded"


def test_the_age_of_the_oldest_due_job_is_told(client, cast, queue_server):
    with transaction.atomic():
        queue.enqueue(
            kind="nothing", subject_id=uuid4(), due_at=timezone.now() - timedelta(minutes=5)
        )

    body = client.get("/readyz").json()

    assert body["status"] == "degraded"
    assert 295 < body["checks"]["oldest_due_s"] < 400


def test_metrics_are_prometheus_text_without_labels(client, db, queue_server):
    response = client.get("/metrics")

    assert response.status_code == 200
    assert response["Content-Type"].startswith("text/plain")
    assert "keyvault_sealed 0.0" in response.text
    assert "{" not in response.text


@pytest.mark.parametrize(
    "headers",
    [
        {"REMOTE_ADDR": "192.0.2.7"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
    ],
)
def test_r37_metrics_are_not_there_for_the_world(client, db, headers):
    assert client.get("/metrics", **headers).status_code == 404


def test_the_allow_list_opens_the_metrics_to_a_network(client, db, settings, queue_server):
    settings.METRICS_NETWORKS = ["192.0.2.0/24"]

    assert client.get("/metrics", REMOTE_ADDR="192.0.2.7").status_code == 200
    assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize("address", ["/healthz", "/readyz", "/metrics"])
def test_health_is_read_only(client, db, address):
    assert client.post(address).status_code == 405


def test_the_ping_says_no_where_nothing_listens():
    assert not readiness.ping_queue_server("redis://localhost:1/0")
    assert not readiness.ping_queue_server("redis+socket:///nowhere/valkey.sock")


def test_the_ping_reads_celery_s_spelling_of_a_socket(settings):
    assert readiness._redis_url("redis+socket://:p%40@/run/v.sock?virtual_host=3") == (
        "unix://:p%40@/run/v.sock?db=3"
    )
    assert readiness._redis_url("rediss://h:1/0") == "rediss://h:1/0"
