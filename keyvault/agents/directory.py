"""Tell approvals who people are, and who answers for agents (`approvals.ports.Directory`)."""

from __future__ import annotations

from uuid import UUID

from approvals.ports import Actor
from keyvault.accounts import directory
from keyvault.agents.models import Agent


class Directory(directory.Directory):
    """The people of the installation, with those behind its agents."""

    def answering_for(self, asker: Actor) -> frozenset[UUID]:
        """Return owner and backup owner of an agent: either can give it a way to act (R15)."""
        agent = Agent.objects.filter(pk=asker.id).first() if asker.kind == "agent" else None
        people = (agent.owner_id, agent.backup_owner_id) if agent else ()
        return frozenset(person for person in people if person is not None)
