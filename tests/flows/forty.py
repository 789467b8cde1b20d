"""Inside a running demo: forty keys of one team, as an import of its env file would leave them.

    python -m tests.flows.forty bring KEY          (the env file on standard input; prints the names)
    python -m tests.flows.forty staff KEY AGENT…   (prints the secrets of the agents, as JSON)

Runs in the environment of that installation. KEY is issued by a real server; the
others hold what stood in the file.
"""

# ruff: noqa: E402 - the models can be imported once Django is set up.

from __future__ import annotations

import json
import sys

import django

django.setup()

from django.utils import timezone

from keyvault.inventory.models import Key
from keyvault.launcher import demo
from tests.flows import keys_by_hand
from tests.load import rotating

CONNECTION = "northwind-db"


def bring(name: str) -> None:
    """Make a key of each line, and one that the database issues; print their names."""
    pairs = [line.strip().split("=", 1) for line in sys.stdin if line.strip()]
    names = [variable.lower().replace("_", "-") for variable, _ in pairs]
    for each, (_, value) in zip(names, pairs, strict=True):
        keys_by_hand.pasted(each, value, team=rotating.team())
    options = {"login_prefix": "forty", "owner_role": demo.OWNER, "connection_limit": "-1"}
    rotating.issued(name, CONNECTION, options, timezone.now())
    sys.stdout.write(json.dumps([*names, name]))


def staff(name: str, *agents: str) -> None:
    """Make agents that may use a key, registered nowhere; print their secrets."""
    now = timezone.now()
    made = rotating.register(agents, now)
    rotating.let_use(Key.objects.get(name=name), made, now)
    sys.stdout.write(json.dumps({agent.name: secret for agent, secret in made.items()}))


if __name__ == "__main__":
    {"bring": bring, "staff": staff}[sys.argv[1]](*sys.argv[2:])
