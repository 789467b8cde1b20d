"""Who people are and what they belong to: reads only."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet

from approvals.ports import Actor, NotVisible, Subject
from keyvault.accounts import administrators, names
from keyvault.accounts.devices import RecoverySheet, TOTPDevice
from keyvault.accounts.models import Invitation, Membership, Team, User


def actor(user: User) -> Actor:
    """Return the snapshot of a person that the ledger keeps."""
    return Actor("user", str(user.pk), str(user))


def subject(user: User) -> Subject:
    """Return the snapshot of a person as what is acted upon."""
    return Subject("person", str(user.pk), str(user))


def user(user_id: UUID | str) -> User:
    """Return one account. Raises NotVisible."""
    found = User.objects.filter(pk=user_id).first()
    if found is None:
        raise NotVisible(str(user_id))
    return found


def user_by_username(username: str) -> User:
    """Return one account by any spelling of its name. Raises NotVisible."""
    found = User.objects.filter(username=names.normalise(username)).first()
    if found is None:
        raise NotVisible(username)
    return found


def solo() -> bool:
    """Say whether the installation is in solo mode."""
    return administrators.solo()


def is_in(user: User, slug: str) -> bool:
    """Say whether an active person is a live member of a team or role now."""
    return user.is_active and Team.objects.filter(slug=slug, group__user=user.pk).exists()


def has_role(user: User, *slugs: str) -> bool:
    """Say whether an active person holds at least one of the roles now."""
    held = Team.objects.filter(slug__in=slugs, kind=Team.Kind.ROLE, group__user=user.pk)
    return user.is_active and held.exists()


def roles(user: User) -> frozenset[str]:
    """Return the slugs of the roles that a person holds now."""
    held = Team.objects.filter(kind=Team.Kind.ROLE, group__user=user.pk)
    return frozenset(held.values_list("slug", flat=True)) if user.is_active else frozenset()


def teams(kind: str | None = None) -> QuerySet[Team]:
    """Return teams and roles, or one kind of them, with their groups."""
    found = Team.objects.select_related("group")
    return found.filter(kind=kind) if kind else found


def teams_with_members() -> QuerySet[Team]:
    """Return teams and roles with `members`, how many active people belong to each now."""
    live = Count("group__user", filter=Q(group__user__is_active=True))
    return Team.objects.select_related("group").annotate(members=live).order_by("kind", "title")


def team_by_slug(slug: str) -> Team:
    """Return a team or role. Raises NotVisible."""
    found = Team.objects.select_related("group").filter(slug=slug).first()
    if found is None:
        raise NotVisible(slug)
    return found


def is_team_taken(slug: str) -> bool:
    """Say whether a team or role of this name exists."""
    return Team.objects.filter(slug=slug).exists()


def joined_by(request_id: UUID) -> bool:
    """Say whether a request has led to a membership already."""
    return Membership.objects.filter(request_id=request_id).exists()


def teams_of(user: User) -> QuerySet[Team]:
    """Return the teams and roles a person belongs to now."""
    return Team.objects.select_related("group").filter(group__user=user.pk)


def people() -> QuerySet[User]:
    """Return everybody with `has_factor`, `has_recovery` and `live`, their live memberships."""
    factor = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
    sheet = RecoverySheet.objects.filter(user=OuterRef("pk"), confirmed_at__isnull=False)
    live = Membership.objects.filter(left_at=None).select_related("group__team")
    return User.objects.annotate(
        has_factor=Exists(factor), has_recovery=Exists(sheet)
    ).prefetch_related(Prefetch("memberships", queryset=live, to_attr="live"))


def enrolled(user_ids: Iterable[UUID]) -> frozenset[UUID]:
    """Return those of the given people who have a confirmed second factor."""
    rows = TOTPDevice.objects.filter(user_id__in=list(user_ids), confirmed=True)
    return frozenset(rows.values_list("user_id", flat=True))


def is_enrolled(user: User) -> bool:
    """Say whether a person has a confirmed second factor."""
    return bool(enrolled([user.pk]))


def enrolled_ids() -> set[UUID]:
    """Return everybody active who has a confirmed second factor."""
    active = User.objects.filter(is_active=True).values_list("pk", flat=True)
    return set(enrolled(list(active)))


def linked(users: Iterable[User]) -> dict[UUID, frozenset[UUID]]:
    """Return for each person the other accounts of the same human, by mailbox."""
    asked = list(users)
    keys = {person.email_key for person in asked if person.email_key}
    rows = User.objects.filter(email_key__in=keys).values_list("email_key", "pk")
    by_key: dict[str, set[UUID]] = {}
    for key, pk in rows:
        by_key.setdefault(key, set()).add(pk)
    return {
        person.pk: frozenset(by_key.get(person.email_key, set()) - {person.pk}) for person in asked
    }


def history(user: User) -> QuerySet[Membership]:
    """Return every stay of a person in a group, newest first."""
    return user.memberships.select_related("group__team").order_by("-joined_at")


def open_invitations() -> QuerySet[Invitation]:
    """Return invitations that are neither used nor withdrawn, newest first."""
    return Invitation.objects.filter(used_at=None, withdrawn_at=None).select_related("invited_by")


def invitation_of(request_id: UUID) -> Invitation | None:
    """Return the invitation that an approved request has opened, or None."""
    return Invitation.objects.filter(request_id=request_id).first()


def recovery_codes_left(user: User) -> int | None:
    """Return how many recovery codes a person has left, None without a sheet that was kept."""
    sheet = RecoverySheet.objects.filter(user=user, confirmed_at__isnull=False).first()
    return sheet.codes.filter(used_at=None).count() if sheet else None


def authenticator(user: User) -> TOTPDevice | None:
    """Return the authenticator in force, or None."""
    return TOTPDevice.objects.filter(user=user, confirmed=True).first()
