"""What an installation starts with: environments, and the policies that ask other people.

Written once; whatever is changed later by approval stays. Every stage names
rules and never people, so that the policies hold while people come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from approvals import services
from approvals.ports import Actor
from keyvault.accounts.models import ADMINISTRATORS
from keyvault.actions import about_agents
from keyvault.inventory import limits
from keyvault.inventory import services as inventory

JSON = Any
SETUP = Actor("system", "defaults", "Defaults")
SECURITY = "security"
SANDBOX_TITLE = "Sandbox"

# A policy that is there already is never written again, so acts that came later have their own.
_KEYS = ["key.create", "key.revoke"]
_READERS = ["grant.give", "agent.join", "trust.bind"]
# Whoever is to answer for an agent could read through it, and never agrees to that.
_NEW_OWNERS = [about_agents.NEW_OWNER, about_agents.NEW_BACKUP]
_ANOTHER_ADMINISTRATOR = {"name": "Another administrator", "groups": [ADMINISTRATORS]}
# Outside protected environments an administrator may stand in, so that a young
# installation, which has no security team yet, is never stuck.
_ONE_OF_THEM = {
    "name": "Security or the owner's team",
    "groups": [SECURITY],
    "roles": ["owner_team"],
    "fallback": [ADMINISTRATORS],
}

_SECURITY_AND_TEAM = [
    {"name": "Security", "groups": [SECURITY]},
    {"name": "Owner's team", "roles": ["owner_team"]},
]

POLICIES: tuple[Mapping[str, JSON], ...] = (
    {
        "name": "Keys in protected environments",
        "scope": {"kind": _KEYS, "protected": ["yes"]},
        "stages": _SECURITY_AND_TEAM,
        "different_teams": True,
    },
    {
        "name": "Keys elsewhere",
        "scope": {"kind": _KEYS},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Sandbox keys of a week",
        "scope": {
            "kind": _KEYS,
            "environment": [limits.SANDBOX],
            # A Connection that reaches other environments too is no sandbox.
            "serves": [limits.SANDBOX],
            "protected": ["no"],
            "lifetime": ["week"],
        },
        "auto": "approve",
    },
    {
        # An adopted key works from then on as one that was created, so as many agree to it.
        "name": "Adoption of keys in protected environments",
        "scope": {"kind": ["key.adopt"], "protected": ["yes"]},
        "stages": _SECURITY_AND_TEAM,
        "different_teams": True,
    },
    {
        "name": "Adoption of keys elsewhere",
        "scope": {"kind": ["key.adopt"]},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Changes of keys in protected environments",
        "scope": {"kind": ["key.change"], "protected": ["yes"]},
        "stages": _SECURITY_AND_TEAM,
        "different_teams": True,
    },
    {
        "name": "Changes of keys elsewhere",
        "scope": {"kind": ["key.change"]},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        # It is judged by the policies for one key as well, of which the strictest governs.
        "name": "Changes of many keys",
        "scope": {"kind": ["key.change_many"]},
        "auto": "approve",
    },
    {
        # It ends the old version only on proof and goes back by itself; who may have the key
        # changed may begin one. Stricter policies of an installation win.
        "name": "Rotations",
        "scope": {"kind": ["key.rotate"]},
        "auto": "approve",
    },
    {
        # It is judged by the policies for one key as well, of which the strictest governs.
        "name": "Rotations of many keys",
        "scope": {"kind": ["key.rotate_many"]},
        "auto": "approve",
    },
    {
        "name": "Ending a rotation without proof in protected environments",
        "scope": {"kind": ["rotation.finish"], "protected": ["yes"]},
        "stages": _SECURITY_AND_TEAM,
        "different_teams": True,
    },
    {
        "name": "Ending a rotation without proof elsewhere",
        "scope": {"kind": ["rotation.finish"]},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Agents in protected environments",
        "scope": {"kind": _READERS, "protected": ["yes"]},
        "stages": _SECURITY_AND_TEAM,
        "different_teams": True,
        # Whoever answers for an agent can read through it, so others decide while they can.
        "step_back": [about_agents.OWNERS],
    },
    {
        "name": "Agents elsewhere",
        "scope": {"kind": _READERS},
        "stages": [_ONE_OF_THEM],
        "step_back": [about_agents.OWNERS],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Owners of agents in protected environments",
        "scope": {"kind": ["agent.change_owner"], "protected": ["yes"]},
        # The new owner is of the agent's team, so a small team has nobody left to decide.
        "stages": [
            {"name": "Security", "groups": [SECURITY]},
            {
                "name": "Owner's team or another administrator",
                "roles": ["owner_team"],
                "fallback": [ADMINISTRATORS],
            },
        ],
        "different_teams": True,
        "exclude": _NEW_OWNERS,
        "step_back": [about_agents.OWNERS],
    },
    {
        "name": "Owners of agents elsewhere",
        # Nobody acts alone here, not even in solo mode: it would be for themselves.
        "scope": {"kind": ["agent.change_owner"]},
        "stages": [_ONE_OF_THEM],
        "exclude": _NEW_OWNERS,
        "step_back": [about_agents.OWNERS],
    },
    {
        "name": "Places of keys in protected environments",
        "scope": {"kind": ["place.add", "place.remove"], "protected": ["yes"]},
        "stages": _SECURITY_AND_TEAM,
        "different_teams": True,
    },
    {
        "name": "Places of keys elsewhere",
        "scope": {"kind": ["place.add", "place.remove"]},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        # Each of them opens one host and port of the own network, as the list of a Connection does.
        "name": "Addresses to ask in the own network",
        "scope": {"kind": ["probe.add"], "network": ["private"]},
        "stages": [_ANOTHER_ADMINISTRATOR],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Addresses to ask elsewhere",
        "scope": {"kind": ["probe.add"]},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Reveals in protected environments",
        "scope": {"kind": ["secret.reveal"], "protected": ["yes"]},
        "stages": [
            {"name": "Security or the owner's team", "groups": [SECURITY], "roles": ["owner_team"]}
        ],
    },
    {
        "name": "Reveals elsewhere",
        "scope": {"kind": ["secret.reveal"]},
        "stages": [_ONE_OF_THEM],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "People, teams and roles",
        "scope": {
            "kind": [
                "team.create",
                "membership.change",
                "person.invite",
                "person.deactivate",
                "factor.reset",
            ]
        },
        "stages": [_ANOTHER_ADMINISTRATOR],
        # Nobody decides about the own rights while another administrator can; with two
        # administrators, one of whom asks, the other one must.
        "step_back": ["owner"],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Trust in outside issuers",
        "scope": {"kind": ["trust.change"]},
        "stages": [_ANOTHER_ADMINISTRATOR],
        "step_back": [about_agents.OWNERS],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Trust that reaches protected environments",
        "scope": {"kind": ["trust.change"], "protected": ["yes"]},
        # An address of keys decides who every agent is that comes in by the trust.
        "stages": [_ANOTHER_ADMINISTRATOR, {"name": "Security", "groups": [SECURITY]}],
        "step_back": [about_agents.OWNERS, "owner"],
    },
    {
        "name": "Connections",
        "scope": {"kind": ["connection.change"]},
        "stages": [_ANOTHER_ADMINISTRATOR],
        "solo": [ADMINISTRATORS],
    },
    {
        # The account and its rights stay as they are, so that one other person is enough.
        "name": "Renewals of admin credentials",
        "scope": {"kind": ["connection.renew"]},
        "stages": [_ANOTHER_ADMINISTRATOR],
        "solo": [ADMINISTRATORS],
    },
    {
        # It makes nothing that is kept and asks for nothing that is in use.
        "name": "Test runs of Connections that serve protected environments",
        "scope": {"kind": ["connection.try"], "protected": ["yes"]},
        "stages": [_ANOTHER_ADMINISTRATOR],
        "solo": [ADMINISTRATORS],
    },
    {
        "name": "Test runs of Connections elsewhere",
        "scope": {"kind": ["connection.try"], "protected": ["no"]},
        "auto": "approve",
    },
    {
        "name": "Connections of protected environments",
        "scope": {"kind": ["connection.change"], "protected": ["yes"]},
        "stages": [_ANOTHER_ADMINISTRATOR, {"name": "Security", "groups": [SECURITY]}],
    },
)


def seed(*, now: datetime) -> None:
    """Write the environments and policies that are missing. Idempotent, one transaction."""
    with transaction.atomic():
        inventory.seed_environments(now=now, actor=SETUP)
        services.seed_policies(POLICIES, now)


def add_sandbox(*, now: datetime, actor: Actor) -> None:
    """Make the sandbox, where keys of a week need nobody; inside the set-up's transaction."""
    inventory.create_environment(
        slug=limits.SANDBOX, title=SANDBOX_TITLE, protected=False, now=now, actor=actor
    )
