"""The examples of docs/examples, run as far as they can be run without their platform."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import playwright
import pytest
import yaml

from keyvault.launcher.installation import ROOT
from tests.keyvault.client import house as houses

EXAMPLES = ROOT / "docs/examples"
# The Node.js that drives the browser tests understands TypeScript.
NODE = Path(playwright.__file__).parent / "driver/node"
CHECK = "import os; print(len(os.environ['OPENAI_API_KEY']), 'ACTIONS_ID_TOKEN_REQUEST_TOKEN' in os.environ)"


@pytest.fixture
def platform(house, tmp_path) -> dict[str, str]:
    """Return the environment of a runner: `keyvault` on its path, and a script to run."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    command = binaries / "keyvault"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m keyvault.cli "$@"\n')
    command.chmod(0o755)
    for name in ("python", "python3"):
        (binaries / name).symlink_to(sys.executable)
    (tmp_path / "evaluate.py").write_text(CHECK)
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(tmp_path),
        "KEYVAULT_URL": house.url,
    }


def bash(script: str, env: dict[str, str], where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        env=env,
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_github_action_runs_with_the_token_of_its_job(house, platform, tmp_path):
    action = yaml.safe_load((EXAMPLES / "github-action/action.yml").read_text())
    inputs = {
        "url": house.url,
        "agent": "evaluation",
        "keys": "openai-prod=OPENAI_API_KEY\n\n",
        "run": "echo $OPENAI_API_KEY; python3 evaluate.py",
        "package": "keyvault",
    }
    assert set(inputs) == set(action["inputs"])
    platform |= {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{house.outside_url}?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner",
    }

    for step in action["runs"]["steps"]:
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "what was given must not become part of the script"
        given = {
            name: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: inputs[m[1]], text)
            for name, text in step["env"].items()
        }
        result = bash(step["run"], platform | given, tmp_path)
        assert result.returncode == 0, result.stderr

    assert result.stdout == "***\n14 False\n"
    form = house.forms[-1]
    assert (form["client_id"], form["subject_token"]) == ("evaluation", f"outside for {house.url}")


def test_the_workflow_gives_every_input_that_the_action_needs():
    action = yaml.safe_load((EXAMPLES / "github-action/action.yml").read_text())
    workflow = yaml.safe_load((EXAMPLES / "github-action/workflow.yml").read_text())
    needed = {name for name, facts in action["inputs"].items() if facts.get("required")}

    assert workflow["permissions"]["id-token"] == "write"
    assert set(workflow["jobs"]["evaluate"]["steps"][1]["with"]) == needed


def test_the_gitlab_job_runs_with_its_id_token(house, platform, tmp_path):
    job = yaml.safe_load((EXAMPLES / "gitlab-ci.yml").read_text())["evaluate"]
    assert set(job["id_tokens"]) == {"KEYVAULT_ID_TOKEN"}
    platform |= {**job["variables"], "KEYVAULT_URL": house.url, "KEYVAULT_ID_TOKEN": "of-the-job"}

    result = bash("\n".join(job["before_script"] + job["script"]), platform, tmp_path)

    assert (result.returncode, result.stdout) == (0, "14 False\n"), result.stderr
    assert house.forms[-1]["subject_token"] == "of-the-job"


ROTATION = {
    "id": "00000000-0000-4000-8000-00000000000a",
    "key": "openai-prod",
    "old_version": 1,
    "new_version": 2,
    "progress": {"done": 1, "of": 1},
    "sentence": "A person must look.",
    "choices": [],
    "page": "/rotations/00000000-0000-4000-8000-00000000000a/",
}


def rotates(house, state: str) -> None:
    """Have the house answer a trigger with a rotation that is over, or held."""
    ended_at = "2026-11-27T00:00:00Z" if state == "completed" else None
    ended = {**ROTATION, "state": state, "ended_at": ended_at}
    answer = (201, {"request": None, "rotation": ended})
    house.api["POST", "/api/v1/keys/openai-prod/rotations"] = answer


def test_the_workflow_rotates_a_key_for_its_deployment(house, platform, tmp_path):
    workflow = yaml.safe_load((EXAMPLES / "github-action/rotate.yml").read_text())
    job = workflow["jobs"]["rotate"]
    assert (job["needs"], job["permissions"]["id-token"]) == ("deploy", "write")
    given = {"github.repository": "acme/shop", "github.run_id": "42", "github.sha": "abc"}
    variables = {
        name: re.sub(r"\$\{\{ (\S+) \}\}", lambda m: given[m[1]], text)
        for name, text in job["env"].items()
    }
    platform |= variables | {
        "KEYVAULT_URL": house.url,
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{house.outside_url}?api-version=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner",
    }
    rotates(house, "completed")

    for step in job["steps"]:
        assert "${{" not in step["run"], "what was given must not become part of the script"
        result = bash(step["run"], platform, tmp_path)
        assert result.returncode == 0, result.stderr

    assert result.stdout == "openai-prod v1 -> v2: done, 1 of 1 dependents\n"
    asked = {"reason": "ci", "deploy_id": "acme/shop/42", "comment": "Deployed abc"}
    assert house.bodies == [asked]
    form = house.forms[-1]
    assert (form["client_id"], form["subject_token"]) == ("deployment", f"outside for {house.url}")


@pytest.mark.parametrize(("state", "code"), [("completed", 0), ("held", 7)])
def test_the_gitlab_job_rotates_a_key_with_its_id_token(house, platform, tmp_path, state, code):
    job = yaml.safe_load((EXAMPLES / "gitlab-rotate.yml").read_text())["rotate"]
    assert set(job["id_tokens"]) == {"KEYVAULT_ID_TOKEN"}
    assert job["allow_failure"]["exit_codes"] == 7
    rotates(house, state)
    platform |= {**job["variables"], "KEYVAULT_URL": house.url, "KEYVAULT_ID_TOKEN": "of-the-job"}
    platform |= {"CI_PROJECT_PATH": "acme/shop", "CI_PIPELINE_ID": "7", "CI_COMMIT_SHA": "abc"}

    result = bash("\n".join(job["before_script"] + job["script"]), platform, tmp_path)

    assert result.returncode == code, result.stderr
    asked = {"reason": "ci", "deploy_id": "acme/shop/7", "comment": "Deployed abc"}
    assert house.bodies == [asked]
    assert house.forms[-1]["subject_token"] == "of-the-job"


def agent_once(house, platform, tmp_path, argv: list[str], *, secret: Path) -> None:
    """Run an entry point until the agent has called the vendor three times, then end it."""
    secret.write_text(houses.SECRET)
    house.put("vendor-prod", "vk-first-value")
    with vendor({"vk-first-value"}) as shop:
        process = subprocess.Popen(
            argv,
            env={
                **platform,
                "KEYVAULT_CLIENT_ID": houses.CLIENT_ID,
                "KEYVAULT_CLIENT_SECRET_FILE": str(secret),
                "VENDOR_URL": shop.url,
            },
            stdout=subprocess.PIPE,
            cwd=tmp_path,
        )
        lines = [process.stdout.readline() for _ in range(3)]
        process.terminate()
        process.communicate(timeout=20)

    assert lines == [b"200\n"] * 3
    assert shop.refused == []


@dataclass
class Vendor:
    """A vendor's server: the key of every call so far, and of every call that it refused."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def vendor(accepted: set[str]):
    """Serve a vendor that accepts these keys."""
    shop = Vendor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            key = self.headers["Authorization"].removeprefix("Bearer ")
            is_accepted = key in accepted
            shop.asked.append(key)
            if not is_accepted:
                shop.refused.append(key)
            self.send_response(200 if is_accepted else 401)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    shop.url = f"http://127.0.0.1:{server.server_port}/"
    try:
        yield shop
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_entry_point_of_the_image_runs_the_agent(house, platform, tmp_path):
    lines = (EXAMPLES / "docker/Dockerfile").read_text().splitlines()
    parts = dict(line.split(" ", 1) for line in lines if line.startswith(("ENTRYPOINT", "CMD")))
    argv = json.loads(parts["ENTRYPOINT"]) + json.loads(parts["CMD"])
    argv = [word.replace("/srv", str(EXAMPLES)) for word in argv]
    argv[0] = shutil.which("keyvault", path=platform["PATH"])

    agent_once(house, platform, tmp_path, argv, secret=tmp_path / "secret")


def test_the_unit_is_valid_and_its_command_runs_the_agent(house, platform, tmp_path):
    unit = EXAMPLES / "systemd/agent.service"
    if analyze := shutil.which("systemd-analyze"):
        checked = subprocess.run(
            [analyze, "verify", str(unit)], capture_output=True, text=True, check=False
        )
        about = [line for line in checked.stderr.splitlines() if str(unit) in line]
        assert about == []
    start = re.search(r"^ExecStart=(.+)$", unit.read_text(), re.MULTILINE)
    argv = shlex.split(start[1].replace("/srv", str(EXAMPLES)))

    agent_once(house, platform, tmp_path, argv, secret=tmp_path / "secret")


def node(platform, *arguments: str) -> subprocess.CompletedProcess[str]:
    more = {"KEYVAULT_CLIENT_ID": houses.CLIENT_ID, "KEYVAULT_CLIENT_SECRET": houses.SECRET}
    return subprocess.run(
        [str(NODE), str(EXAMPLES / "read-key.mts"), *arguments],
        env=platform | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_typescript_program_reads_a_key_over_plain_http(house, platform):
    read = node(platform, "openai-prod")
    refused = node(platform, "somebody-elses")

    assert (read.returncode, read.stdout) == (0, "sk-first-value"), read.stderr
    assert house.forms[0]["scope"] == "openai-prod"
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "You have no key of this name" in refused.stderr
    assert "request_access" in refused.stderr
    assert node(platform).returncode == 2
