"""An agent reads its key from a running installation, and follows it when its version moves.

The agent is docs/examples/agent.py; its vendor accepts the new value and, as in
a grace period, the old one until nobody uses it any more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from keyvault.client import Client, NotGranted
from keyvault.launcher.installation import ROOT
from tests.keyvault.cli.test_examples import vendor
from tests.keyvault.gateway import builders

pytestmark = pytest.mark.slow
AGENT = ROOT / "docs/examples/agent.py"
NAME = "refund-bot"


def by_hand(stack, *words: str, value: str) -> None:
    """Run tests.flows.keys_by_hand inside the installation."""
    env = {**os.environ, **stack.environment(), "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-P", "-m", "tests.flows.keys_by_hand", *words]
    done = subprocess.run(argv, env=env, input=value, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def identity(stack) -> dict[str, str]:
    """Return what the environment of the demo's agent holds."""
    agents = json.loads((stack.data / "demo.json").read_text(encoding="utf-8"))["agents"]
    secret = next(a["client_secret"] for a in agents if a["client_id"] == NAME)
    return {
        "KEYVAULT_URL": stack.url,
        "KEYVAULT_CLIENT_ID": NAME,
        "KEYVAULT_CLIENT_SECRET": secret,
        "KEYVAULT_REFRESH_S": "0.2",
    }


def follows(stack, identity, argv, *, name: str) -> None:
    """Start the agent, move its key under it, end the old value, and see that no call failed."""
    accepted = {"vk-first-value"}
    with vendor(accepted) as shop:
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "VENDOR_URL": shop.url}
        process = subprocess.Popen(
            argv, env=env | identity, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            builders.until(lambda: len(shop.asked) >= 3 or process.poll() is not None)
            accepted.add("vk-second-value")
            by_hand(stack, "move", name, value="vk-second-value")
            builders.until(lambda: "vk-second-value" in shop.asked or process.poll() is not None)
            accepted.remove("vk-first-value")
            calls = len(shop.asked)
            builders.until(lambda: len(shop.asked) >= calls + 20 or process.poll() is not None)
            ended = process.poll()
        finally:
            process.terminate()
            out, err = process.communicate(timeout=30)
    assert ended is None, err
    assert shop.refused == [], err
    assert set(out.split("\n")[:-1]) == {"200"}
    assert shop.asked == sorted(shop.asked), "it went back to the old value"
    assert "vk-" not in out + err


def test_the_agent_follows_its_key_through_run(stack, identity):
    by_hand(stack, "give", NAME, "vendor-run", value="vk-first-value")
    run = [sys.executable, "-P", "-m", "keyvault.cli", "run", "--key", "vendor-run=VENDOR_KEY"]

    argv = [*run, "--on-change", "restart", "--", sys.executable, str(AGENT)]

    follows(stack, identity, argv, name="vendor-run")


def test_the_agent_follows_its_key_through_the_client(stack, identity):
    by_hand(stack, "give", NAME, "vendor-prod", value="vk-first-value")

    follows(stack, identity, [sys.executable, str(AGENT)], name="vendor-prod")


def test_a_key_that_is_not_granted_says_how_to_ask(stack, identity):
    with (
        Client(
            stack.url, client_id=NAME, client_secret=identity["KEYVAULT_CLIENT_SECRET"]
        ) as client,
        pytest.raises(NotGranted) as refused,
    ):
        client.get("somebody-elses")

    assert refused.value.next_action["body"]["kind"]
