"""How a change of who answers for an agent reads to those who approve it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from approvals.ports import Change, RiskPoint
from keyvault.accounts.models import User
from keyvault.actions import about_agents, about_keys
from keyvault.agents import access
from keyvault.agents.models import Agent
from keyvault.inventory.models import Key

NOBODY = "nobody"
_STAYS = (
    "The agent goes on working: its keys, tokens, secrets, public keys and bindings stay. "
    "Whoever holds a secret of it still can be the agent until the secret is ended."
)


def title(agent: Agent, *, owner: User, backup: User | None) -> str:
    """Return what lists call it: the new owner, or who stands in where the owner stays."""
    if owner == agent.owner:
        return f"{backup or NOBODY.title()} stands in for the owner of {agent.name}"
    return f"{owner} answers for {agent.name}"


def outcome(agent: Agent, *, owner: User, backup: User | None) -> str:
    """Return what has become true."""
    return f"{owner} answers for {agent.name}, with {backup or NOBODY} standing in."


def sentence(agent: Agent, *, owner: User, backup: User | None) -> str:
    """Return what becomes true, in one sentence."""
    return (
        f"{_named(owner)} will own the agent {agent.name} ({agent.title}) of {agent.team.team}, "
        f"with {_named(backup)} standing in. "
        "Whoever answers for it can stop it and give it ways to prove itself."
    )


def changes(
    agent: Agent, *, owner: User, backup: User | None, keys: Sequence[Key]
) -> tuple[Change, ...]:
    """Return who answers for the agent now and then, and what can be read through it.

    Whether somebody is active is no part of it: an owner who leaves before the
    hand-over runs would otherwise stop it.
    """
    names = tuple(f"{key.name} ({key.environment.slug})" for key in keys) or about_keys.NONE
    guarded = any(key.environment.protected for key in keys)
    then = _named(backup)
    return (
        Change("Owner", _named(agent.owner), _named(owner)),
        Change("Backup owner", _named(agent.backup_owner), then, "" if backup else "Nobody"),
        Change("Keys that are read through it", names, names, "Protected" if guarded else ""),
        about_agents.input_row([agent]),
    )


def breaks(agent: Agent, *, owner: User, backup: User | None) -> tuple[str, ...]:
    """Return what stops and what goes on."""
    answer_then = {owner, backup}
    gone = [row for row in (agent.owner, agent.backup_owner) if row and row not in answer_then]
    lines = [f"{_named(row)} no longer answers for it." for row in gone]
    if owner != agent.owner:
        lines.append(
            "Open requests for its access, its teams and its jobs name the owner of today. They "
            "stop when they would run, and have to be sent again."
        )
    return (*lines, _STAYS)


def risk(agent: Agent, *, owner: User, backup: User | None, keys: Sequence[Key]) -> list[RiskPoint]:
    """Return what makes it risky to let these people answer for the agent."""
    after = copy.copy(agent)
    after.owner, after.backup_owner = owner, backup
    points = [RiskPoint(15, "Others read through it", "An owner can add a way to be the agent.")]
    points += about_agents.risk([after])
    if guarded := sorted(key.name for key in keys if key.environment.protected):
        points.append(RiskPoint(25, "Protected environment", ", ".join(guarded)))
    if ways := _ways_in(agent):
        text = f"{ways} that its owners of before may know. Look at them after the change."
        points.append(RiskPoint(10, "Ways to prove itself stay", text))
    if access.is_orphan(agent):
        text = "Nobody who is active answers for it, so nobody who knows it hands it over."
        points.append(RiskPoint(10, "No living owner", text))
    if agent.contained:
        text = "Somebody on duty has suspended it. It stays suspended."
        points.append(RiskPoint(15, "It was contained", text))
    return points


def _named(person: User | None) -> str:
    """Return a person with the user name that tells namesakes apart."""
    return f"{person} ({person.username})" if person else NOBODY


def _ways_in(agent: Agent) -> int:
    """Return how many secrets, public keys and bindings nobody has ended."""
    held = agent.clients.filter(ended_at=None).count()
    return held + agent.bindings.filter(ended_at=None).count()
