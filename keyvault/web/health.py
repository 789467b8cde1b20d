"""Health for machines: the process answers, it can do its work, its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from keyvault import readiness
from keyvault.accounts import gates
from keyvault.readiness import Readiness, Status

_OUT_OF_SERVICE = {Status.UNREADY, Status.SEALED}
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-Ip")


@gates.public
@require_safe
def healthz(_request: HttpRequest) -> HttpResponse:
    """Say that this process answers; it looks at nothing else."""
    return JsonResponse({"status": "ok"})


@gates.public
@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """Say whether this process can do its work: 200, or 503 when it must not be asked.

    Anybody may ask, so the answer holds ages and yes or no, and no address or sentence.
    """
    found = readiness.look(now=timezone.now())
    if found.status is Status.SEALED:
        return JsonResponse({"status": "sealed"}, status=503)
    checks = {
        "database": found.has_database,
        "queue_server": found.has_queue_server,
        "unsequenced_s": found.unsequenced_s,
        "oldest_due_s": found.oldest_due_s,
    }
    status = 503 if found.status in _OUT_OF_SERVICE else 200
    return JsonResponse({"status": found.status, "checks": checks}, status=status)


@gates.public
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the numbers in Prometheus text form, to the networks of KEYVAULT_METRICS_NETWORKS.

    A request that a proxy forwarded is refused whatever it says: behind a proxy
    on this host the whole world would come from loopback. Raises Http404.
    """
    direct = ip_address(request.META.get("REMOTE_ADDR") or "0.0.0.0")  # noqa: S104 - matches none
    allowed = any(direct in ip_network(word) for word in settings.METRICS_NETWORKS)
    if not allowed or any(name in request.headers for name in _FORWARDED):
        raise Http404
    registry = CollectorRegistry()
    registry.register(_Numbers(readiness.look(now=timezone.now())))
    return HttpResponse(generate_latest(registry), content_type="text/plain; version=0.0.4")


class _Numbers(Collector):
    """What one look found, as gauges. No label ever holds text from outside."""

    def __init__(self, found: Readiness) -> None:
        self._found = found

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._found
        for name, help_text, value in (
            ("keyvault_database_up", "1 when PostgreSQL answers", found.has_database),
            ("keyvault_queue_server_up", "1 when Valkey or Redis answers", found.has_queue_server),
            ("keyvault_sealed", "1 when no usable key-encryption key is here", found.is_sealed),
            ("keyvault_held_jobs", "Jobs that wait for a person", found.held_jobs),
            ("keyvault_oldest_due_seconds", "Age of the oldest due job", found.oldest_due_s),
            (
                "keyvault_unsequenced_seconds",
                "Age of the oldest event that has no place in the tree yet",
                found.unsequenced_s,
            ),
        ):
            yield GaugeMetricFamily(name, help_text, value=float(value or 0))


urlpatterns = [
    path("healthz", healthz, name="healthz"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
]
