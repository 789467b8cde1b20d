"""Tell approvals who people are, and who answers for agents (`approvals.ports.Directory`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

from approvals.ports import Actor
from keyvault.accounts import directory
from keyvault.agents.models import Agent


class Directory(directory.Directory):
    """The people of the installation, with those behind its agents."""

    def answering_for(self, askers: Collection[Actor]) -> Mapping[Actor, frozenset[UUID]]:
        """Return owner and backup owner of each agent: either can give it a way to act (R15)."""
        ids = [asker.id for asker in askers if asker.kind == "agent"]
        people = {str(row.pk): _answering(row) for row in Agent.objects.filter(pk__in=ids)}
        return {asker: people.get(asker.id, frozenset()) for asker in askers}


def _answering(agent: Agent) -> frozenset[UUID]:
    people = (agent.owner_id, agent.backup_owner_id)
    return frozenset(person for person in people if person is not None)
