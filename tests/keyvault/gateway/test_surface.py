"""The surface of a gateway: what is open, what is believed, what is taken; the rest is refused."""

from __future__ import annotations

import httpx
import pytest

from keyvault.gateway import settings
from keyvault.gateway.server import Application
from keyvault.usage.models import LoadedVersion
from tests import cleartext
from tests.keyvault.gateway import builders, harness

pytestmark = pytest.mark.django_db(transaction=True)

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LIST")
# Whoever comes may ask how the process is. None of these says anything of a key.
OPEN = {"/healthz", "/readyz", "/v1/sys/health", "/v1/sys/seal-status"}
WITH_NAMES = {"/v1/keys/ledger-reader", "/v1/secret/data/ledger-reader", "/v1/secret/metadata/a"}
SPOOFS = {
    "X-Forwarded-For": "203.0.113.9",
    "X_Forwarded_For": "203.0.113.9",
    "Forwarded": "for=203.0.113.9;host=evil.example",
    "X-Real-IP": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Original-URL": "/healthz",
    "X-Rewrite-URL": "/healthz",
    "X-HTTP-Method-Override": "DELETE",
    "Host": "evil.example",
}


@pytest.fixture
def deal(gateway, cast):
    """Return a deal that the gateway knows."""
    return _known(gateway, builders.deal(cast))


def _known(gateway, deal: builders.Deal) -> builders.Deal:
    builders.until(lambda: _get(gateway, deal, "/v1/keys/ledger-reader").status_code == 200)
    return deal


def _get(gateway, deal, path: str, **headers: str) -> httpx.Response:
    return cleartext.get(gateway.url + path, headers={**deal.headers, **headers})


@pytest.fixture
def addresses(keys, monkeypatch) -> set[str]:
    """Return every address that has a door, as the code has them."""
    monkeypatch.setenv("KEYVAULT_KEYS_DIR", str(keys.path))
    monkeypatch.setenv("KEYVAULT_KEK", f"file:{keys.path / 'kek'}")
    monkeypatch.setenv("DATABASE_URL", harness.database_url())
    made = Application(settings.load(), readlog=None)
    return {path for _, path in made._doors} | set(made._vault._handlers) | WITH_NAMES


def test_r37_without_a_token_only_the_health_is_told(gateway, addresses):
    assert addresses >= OPEN
    for path in sorted(addresses):
        for method in METHODS:
            query = "?names=ledger-reader" if path in {"/v1/keys", "/v1/watch"} else ""
            answer = cleartext.request(method, gateway.url + path + query)

            if path in OPEN and method == "GET":
                assert answer.status_code == 200, path
            elif path in OPEN and method == "HEAD":
                assert answer.status_code in {200, 405}, path
            else:
                assert answer.status_code in {401, 403, 404, 405}, (method, path)
            assert "ledger-reader" not in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/keys/ledger-reader?ordering=secret__value"),
        ("GET", "/v1/keys/ledger-reader?key__owner__password__startswith=a"),
        ("GET", "/v1/keys?names=ledger-reader&owner=me"),
        ("GET", "/v1/keys?names=ledger-reader&names=other"),
        ("GET", "/v1/watch?names=ledger-reader&since=0"),
        ("GET", "/v1/secret/data/ledger-reader?list=true"),
        ("POST", "/v1/heartbeat?agent=refund-bot"),
    ],
)
def test_r33_a_parameter_that_is_not_listed_is_refused(gateway, deal, method, path):
    report = {"keys": {"ledger-reader": 1}} if method == "POST" else None

    answer = cleartext.request(method, gateway.url + path, headers=deal.headers, json=report)

    assert answer.status_code == 400
    assert "s3cret" not in answer.text


def test_r39_a_report_takes_no_field_of_its_row(gateway, deal):
    url, report = f"{gateway.url}/v1/heartbeat", {"keys": {"ledger-reader": 1}}
    fields = {field.name for field in LoadedVersion._meta.get_fields()}
    fields |= {field.attname for field in LoadedVersion._meta.concrete_fields}

    for name in sorted(fields | {"owner", "team", "state", "is_staff", "now"}):
        answer = cleartext.post(url, headers=deal.headers, json={**report, name: "1"})
        assert answer.status_code == 400, name

    assert cleartext.post(url, headers=deal.headers, json=report).status_code == 200


def test_r40_headers_change_neither_the_recorded_source_nor_where_an_answer_leads(gateway, deal):
    before = len(gateway.logged())

    plain = _get(gateway, deal, "/v1/keys/never-heard-of").json()
    spoofed = _get(gateway, deal, "/v1/keys/never-heard-of", **SPOOFS).json()
    read = _get(gateway, deal, "/v1/keys/ledger-reader", **SPOOFS)

    assert read.status_code == 200
    assert plain.pop("request_id") != spoofed.pop("request_id")
    assert plain == spoofed
    lines = gateway.logged()[before:]
    assert [line.split()[-1] for line in lines if line.startswith("ledger-reader")] == ["127.0.0.1"]
    assert len([line for line in lines if line.startswith("denied 127.0.0.1 ")]) == 2
    assert "203.0.113.9" not in "".join(lines)


def test_r40_a_trusted_proxy_is_believed_for_the_last_address_that_is_not_its_own(
    django_db_setup, keys, tmp_path, cast
):
    trusted = {"KEYVAULT_TRUSTED_PROXIES": "127.0.0.1/32,10.0.0.0/8"}
    with harness.shared(tmp_path, keys.path, **trusted) as (gateway,):
        deal = _known(gateway, builders.deal(cast))
        before = len(gateway.logged())
        for header in ("203.0.113.9, 198.51.100.7, 10.1.2.3", "203.0.113.9, nonsense", ""):
            _get(gateway, deal, "/v1/keys/ledger-reader", **{"X-Forwarded-For": header})

        sources = [line.split()[-1] for line in gateway.logged()[before:]]
    assert sources == ["198.51.100.7", "127.0.0.1", "127.0.0.1"]
