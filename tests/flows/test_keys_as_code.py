"""The file of docs/examples/keys-as-code, planned and applied by its owner at a running installation.

Its labels are asked for by one request that two people sign; its titles and
dependents hold at once; and then a plan finds nothing to do until somebody
changes something elsewhere.
"""

from __future__ import annotations

import json

import pytest

from keyvault.cli.codes import Exit
from keyvault.launcher.installation import ROOT
from tests.flows import lives
from tests.flows.test_forty_keys import signed_in
from tests.flows.visitors import visitor

pytestmark = pytest.mark.slow
EXAMPLE = str(ROOT / "docs/examples/keys-as-code/keys.toml")
TRIAGE, REPORTS = "returns-triage", "returns-reports"
WHY = ("--yes", "--reason", "Reviewed in 42.")


def test_the_example_is_planned_applied_and_holds(stack, tmp_path):
    with (
        visitor(stack, "alice") as alice,
        visitor(stack, "bob") as bob,
        visitor(stack, "carol") as carol,
    ):
        for name in (TRIAGE, REPORTS):
            asked = lives.ask_for_key(alice, name, lives.DATABASE, delivery_mode="pull")
            lives.done(asked, bob, carol)
        terminal = signed_in(alice, tmp_path)

        code, told, said = terminal.run("plan", EXAMPLE)
        assert code == Exit.CHANGES, told + said
        assert "~ title" in told

        code, told, said = terminal.run("apply", EXAMPLE, *WHY, "--json")
        assert code == Exit.DONE, told + said
        done = json.loads(told)
        assert done["changed"] == [
            f"{REPORTS}: dependents",
            f"{TRIAGE}: title",
            f"{TRIAGE}: dependents",
        ]
        (request,) = done["requests"]
        assert request["state"] == "pending"

        code, again, said = terminal.run("apply", EXAMPLE, *WHY, "--json")
        assert code == Exit.DONE, again + said
        assert json.loads(again) == {"changed": [], "requests": [request]}

        lives.done(f"/approvals/{request['id']}/", bob, carol)
        code, told, said = terminal.run("request", "show", request["label"], "--wait")
        assert code == Exit.DONE, told + said

        assert terminal.run("plan", EXAMPLE)[0] == Exit.DONE
        alice.send(f"/keys/{TRIAGE}/change/", "title", title="Renamed by hand", rename="1")
        code, told, said = terminal.run("plan", EXAMPLE)
        assert (code, said) == (Exit.CHANGES, "")
        assert "Renamed by hand -> Returns, triage" in told
        assert "1 change to 1 key: 1 at once, 0 that policy decides about." in told
