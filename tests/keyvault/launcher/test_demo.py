"""The demo: a sample organisation that works, and that can be nothing else."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys

import httpx
import psycopg
import pytest
import redis
from django.core.management import CommandError, call_command

from keyvault.launcher import demo
from keyvault.launcher.installation import ROOT
from tests import cleartext
from tests.servers import clean_environment

NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"]


def post(client: httpx.Client, address: str, **fields: str) -> httpx.Response:
    """Post a form as a browser does, with the token of the page."""
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', client.get(address).text)
    data = {"csrfmiddlewaretoken": token.group(1), **fields}
    return client.post(address, data=data, headers={"Origin": str(client.base_url).rstrip("/")})


def sign_in(stack, name: str) -> httpx.Client:
    client = cleartext.Client(base_url=stack.url, follow_redirects=True)
    password = stack.people()[name]["password"]
    assert post(client, "/auth/login/", username=name, password=password).url.path == "/auth/mfa/"
    answer = post(client, "/auth/mfa/", code=stack.code(name))
    assert answer.status_code == 200, answer.text
    return client


@pytest.mark.slow
def test_everybody_signs_in_with_the_password_and_code_of_demo_json(stack):
    assert list(stack.people()) == NAMES
    for name in ("alice", "grace"):
        client = sign_in(stack, name)
        assert client.get("/").status_code == 200
        client.close()


@pytest.mark.slow
def test_demo_json_is_private_and_complete(stack):
    path = stack.data / "demo.json"
    facts = json.loads(path.read_text())

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert facts["url"] == stack.url
    assert {"gateway", "agents", "people"} <= set(facts)
    assert all({"username", "password", "totp_secret", "roles"} <= set(p) for p in facts["people"])


@pytest.mark.slow
def test_each_agent_of_demo_json_gets_a_token_and_may_use_no_key_yet(stack):
    agents = json.loads((stack.data / "demo.json").read_text())["agents"]

    assert [agent["client_id"] for agent in agents] == ["refund-bot", "support-triage"]
    for agent in agents:
        form = {
            "grant_type": "client_credentials",
            "client_id": agent["client_id"],
            "client_secret": agent["client_secret"],
        }
        answer = cleartext.post(f"{stack.url}/api/v1/oauth/token", data=form)
        assert answer.json()["token_type"].lower() == "bearer"
        assert agent["keys"] == []
    with stack.sql() as link:
        marks = link.execute("SELECT name, reads_outside_text FROM keyvault_agent ORDER BY 1")
        assert marks.fetchall() == [("refund-bot", False), ("support-triage", True)]


@pytest.mark.slow
def test_the_command_prints_the_code_that_is_accepted(stack):
    result = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "keyvault.cli",
            "demo",
            "--data",
            str(stack.data),
            "code",
            "bob",
        ],
        env=clean_environment(stack.keys),
        capture_output=True,
        text=True,
        check=True,
    )

    assert re.fullmatch(r"\d{6}  \d{1,2} s left\n", result.stdout)


@pytest.mark.slow
def test_bob_and_carol_are_in_different_teams(stack):
    roles = {name: set(person["roles"]) for name, person in stack.people().items()}

    assert roles["alice"] == roles["carol"] == {"payments"}
    assert roles["bob"] == {"security"}
    assert roles["frank"] == roles["grace"] == {"administrators"}


@pytest.mark.slow
def test_its_targets_are_real_servers_and_not_keyvaults_own(stack):
    targets = stack.targets()
    with psycopg.connect(
        host=targets.host,
        port=targets.postgres_port,
        user=demo.ADMIN,
        password=targets.password,
        dbname=demo.DATABASE,
    ) as link:
        assert link.execute(
            "SELECT rolcreaterole, rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone() == (True, False)
        theirs = link.execute("SELECT system_identifier FROM pg_control_system()")
        identity = theirs.fetchone()
    with stack.sql() as link:
        assert (
            link.execute("SELECT system_identifier FROM pg_control_system()").fetchone() != identity
        )
        kinds = link.execute("SELECT provider FROM keyvault_connection ORDER BY 1").fetchall()
    cache = redis.Redis(
        port=targets.valkey_port,
        username=demo.ADMIN,
        password=targets.valkey_password,
        decode_responses=True,
    )
    assert demo.ADMIN in cache.acl_users()
    cache.close()
    assert kinds == [("manual",), ("postgresql",), ("valkey",)]


@pytest.mark.slow
def test_a_second_load_is_refused(stack):
    result = subprocess.run(
        [sys.executable, "-P", "-m", "django", "load_demo"],
        cwd=ROOT,
        env=stack.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert "a demo is never loaded into it" in result.stderr


@pytest.mark.django_db(transaction=True)
def test_it_is_never_loaded_into_a_real_organisation(settings, tmp_path):
    settings.DATA_DIR, settings.IS_DEMO = tmp_path, False

    with pytest.raises(CommandError, match="this installation is real"):
        call_command("load_demo")
    assert not (tmp_path / "demo.json").exists()
