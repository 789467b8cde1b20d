"""Inside a running demo: a key that a real server issues, and the agents that use it.

    python -m tests.flows.forty issue KEY          (prints the name)
    python -m tests.flows.forty staff KEY AGENT…   (prints the secrets of the agents, as JSON)

Runs in the environment of that installation.
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
from tests.load import rotating

CONNECTION = "northwind-db"


def issue(name: str) -> None:
    """Make a key that the database issues."""
    options = {"login_prefix": "forty", "owner_role": demo.OWNER, "connection_limit": "-1"}
    rotating.issued(name, CONNECTION, options, timezone.now())
    sys.stdout.write(json.dumps(name))


def staff(name: str, *agents: str) -> None:
    """Make agents that may use a key, registered nowhere; print their secrets."""
    now = timezone.now()
    made = rotating.register(agents, now)
    rotating.let_use(Key.objects.get(name=name), made, now)
    sys.stdout.write(json.dumps({agent.name: secret for agent, secret in made.items()}))


if __name__ == "__main__":
    {"issue": issue, "staff": staff}[sys.argv[1]](*sys.argv[2:])
