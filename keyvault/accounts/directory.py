"""Tell approvals who people are, at this moment (`approvals.ports.Directory`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from approvals.ports import Actor, Member, Standing
from keyvault.accounts import selectors
from keyvault.accounts.models import AUDITORS, Membership, User


class Directory:
    """Answer from live rows; nothing is cached, so that lost rights count at once."""

    def standings(self, person_ids: Collection[UUID]) -> Mapping[UUID, Standing]:
        """Return the standing of each known id."""
        people = list(User.objects.filter(pk__in=list(person_ids)))
        enrolled = selectors.enrolled(person.pk for person in people)
        linked = selectors.linked(people)
        return {
            person.pk: Standing(
                person_id=person.pk,
                label=str(person),
                active=person.is_active,
                enrolled=person.pk in enrolled,
                barred_until=person.barred_until,
                linked=linked[person.pk],
            )
            for person in people
        }

    def members(self, groups: Collection[str]) -> Sequence[Member]:
        """Return live memberships of teams and roles given by slug."""
        rows = Membership.objects.filter(left_at=None, group__team__slug__in=list(groups))
        return [
            Member(person_id=person_id, group=slug, joined_at=joined_at)
            for person_id, slug, joined_at in rows.order_by("joined_at").values_list(
                "user_id", "group__team__slug", "joined_at"
            )
        ]

    def solo(self) -> bool:
        """Say whether the installation still has fewer than two enrolled administrators."""
        return selectors.solo()

    def actor(self, person_id: UUID) -> Actor:
        """Return the snapshot of a person for the ledger. Raises NotVisible."""
        return selectors.actor(selectors.user(person_id))

    def only_looks(self, person_id: UUID) -> bool:
        """Say whether a person is an auditor now, whatever else they are. Raises NotVisible."""
        return selectors.has_role(selectors.user(person_id), AUDITORS)
