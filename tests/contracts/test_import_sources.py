"""What `keyvault import` reads from a real OpenBao, and from AWS as moto plays it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from keyvault.cli import found_in_vaults
from keyvault.launcher.sentences import Stop
from tests.contracts import aws_servers
from tests.load import openbao
from tests.servers import free_port

REGION = aws_servers.REGION
READ = "secretsmanager:ListSecrets", "secretsmanager:GetSecretValue"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openbao.OpenBao]:
    directory = tmp_path_factory.mktemp("openbao")
    with (
        openbao.running(directory, free_port(), free_port()) as running,
        contextlib.closing(running.root),
    ):
        put(running, "apps/web", {"OPENAI_API_KEY": "sk-canary-1", "port": 8080})
        put(running, "apps/web/db", {"user": "web", "password": "sk-canary-2"})
        put(running, "other", {"token": "sk-canary-3"})
        put(running, "apps/gone", {"token": "sk-canary-4"})
        running.root.delete("/v1/secret/data/apps/gone").raise_for_status()
        yield running


def put(server: openbao.OpenBao, path: str, data: dict[str, object]) -> None:
    server.root.post(f"/v1/secret/data/{path}", json={"data": data}).raise_for_status()


def values(rows):
    return {row.said["name"]: (row.where, row.value) for row in rows}


def test_every_text_below_a_path_is_found_and_nothing_is_written(bao, monkeypatch):
    monkeypatch.setenv("BAO_TOKEN", bao.root.headers["X-Vault-Token"])
    before = bao.root.get("/v1/secret/metadata/apps/web").json()["data"]["versions"]

    found = values(found_in_vaults.openbao(bao.url, "secret/apps"))

    assert found == {
        "apps-web": ("secret/apps/web#OPENAI_API_KEY", "sk-canary-1"),
        "apps-web-db-user": ("secret/apps/web/db#user", "web"),
        "apps-web-db-password": ("secret/apps/web/db#password", "sk-canary-2"),
    }
    assert bao.root.get("/v1/secret/metadata/apps/web").json()["data"]["versions"] == before


def test_one_secret_alone_and_a_whole_mount_are_found(bao, monkeypatch):
    monkeypatch.setenv("VAULT_TOKEN", bao.root.headers["X-Vault-Token"])

    assert set(values(found_in_vaults.openbao(f"{bao.url}/", "secret/other"))) == {"other"}
    assert set(values(found_in_vaults.openbao(bao.url, "secret"))) == {
        "apps-web",
        "apps-web-db-user",
        "apps-web-db-password",
        "other",
    }


def test_a_token_that_opens_nothing_is_refused_in_a_sentence(bao, monkeypatch):
    monkeypatch.setenv("BAO_TOKEN", "s.no-such-token")

    with pytest.raises(Stop, match="lacks a right") as stopped:
        found_in_vaults.openbao(bao.url, "secret/apps")

    assert "no-such-token" not in str(stopped.value)


@pytest.mark.parametrize(
    ("address", "path", "says"),
    [
        ("http://vault.example.com:8200", "secret", "https://"),
        ("ftp://127.0.0.1", "secret", "https://"),
        ("https://169.254.169.254", "secret", "169.254.169.254"),
        ("http://127.0.0.1:1", "/", "mount"),
    ],
)
def test_no_token_goes_where_it_should_not(monkeypatch, address, path, says):
    monkeypatch.setenv("BAO_TOKEN", "s.canary")

    with pytest.raises(Stop, match=says):
        found_in_vaults.openbao(address, path)


def test_without_a_token_nothing_is_asked(monkeypatch):
    monkeypatch.delenv("BAO_TOKEN", raising=False)
    monkeypatch.delenv("VAULT_TOKEN", raising=False)

    with pytest.raises(Stop, match="BAO_TOKEN or VAULT_TOKEN is not set"):
        found_in_vaults.openbao("http://127.0.0.1:8200", "secret")


@pytest.fixture
def secrets(aws_target: aws_servers.AwsTarget, monkeypatch) -> Iterator[aws_servers.AwsTarget]:
    client = aws_target.client("secretsmanager")
    texts = {
        "import/one": "sk-canary-1",
        "import/two": json.dumps({"api_key": "sk-canary-2", "org": "org-1", "port": 1}),
        "import/three": json.dumps({"api_key": "sk-canary-3"}),
        "other/four": "sk-canary-4",
    }
    for name, text in texts.items():
        client.create_secret(Name=name, SecretString=text)
    client.create_secret(Name="import/binary", SecretBinary=b"\0\1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", aws_target.url)
    yield aws_target
    for name in [*texts, "import/binary"]:
        client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def sign_in(monkeypatch, material) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", material["access_key_id"].reveal().decode())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", material["secret_access_key"].reveal().decode())


def test_every_text_of_a_prefix_is_found(secrets, monkeypatch):
    sign_in(monkeypatch, secrets.user("importer", "/", READ))
    monkeypatch.setattr(found_in_vaults, "_PAGE", 2)

    found = values(found_in_vaults.aws_secrets(REGION, "import/"))

    assert found == {
        "import-one": ("import/one", "sk-canary-1"),
        "import-two-api-key": ("import/two#api_key", "sk-canary-2"),
        "import-two-org": ("import/two#org", "org-1"),
        "import-three": ("import/three#api_key", "sk-canary-3"),
    }


def test_an_access_key_without_the_right_is_told_which_one_lacks(secrets, monkeypatch):
    sign_in(monkeypatch, secrets.user("nobody", "/", ["sts:GetCallerIdentity"]))

    with pytest.raises(Stop, match="secretsmanager:ListSecrets"):
        found_in_vaults.aws_secrets(REGION, "import/")


def test_a_region_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "A" * 20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s" * 40)

    with pytest.raises(Stop, match="eu-central-1"):
        found_in_vaults.aws_secrets("example.com/", "")
