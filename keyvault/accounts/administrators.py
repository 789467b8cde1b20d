"""How many administrators there are, and that there are never again fewer than two.

Solo mode holds until a second administrator is enrolled, and never returns.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from approvals.ports import Actor, Subject
from keyvault.accounts.devices import TOTPDevice
from keyvault.accounts.models import ADMINISTRATORS, Installation, User
from keyvault.audit import ledger

LEAST = 2


class LastAdministrators(Exception):
    """The act would leave fewer than two administrators."""


def enrolled() -> QuerySet[User]:
    """Return the active administrators who have a second factor."""
    with_factor = TOTPDevice.objects.filter(confirmed=True).values("user_id")
    return User.objects.filter(
        is_active=True, groups__team__slug=ADMINISTRATORS, pk__in=with_factor
    )


def lock() -> Installation:
    """Lock the row that guards administrators until the caller's transaction ends.

    Taken first by everything that makes or unmakes one: of two racing acts the
    second sees what the first has done.
    """
    Installation.objects.bulk_create([Installation(id=1)], ignore_conflicts=True)
    return Installation.objects.select_for_update().get(id=1)


def solo() -> bool:
    """Say whether the installation never yet had two enrolled administrators."""
    return not Installation.objects.filter(id=1, left_solo_at__isnull=False).exists()


def require_two_without(person_id: UUID) -> None:
    """Raise LastAdministrators when too few would stay; call under `lock`.

    Two must stay, and in solo mode one: with none, nobody could ever act here again.
    """
    least, word = (1, "no administrator") if solo() else (LEAST, "fewer than two administrators")
    if enrolled().exclude(id=person_id).count() < least:
        raise LastAdministrators(f"That would leave {word}. Make another person one first.")


def require_another(person_id: UUID) -> None:
    """Raise LastAdministrators when no other enrolled administrator is left; call under `lock`."""
    if not enrolled().exclude(id=person_id).exists():
        raise LastAdministrators(
            "Nobody else could let this person in again. Make another person administrator first."
        )


def leave_solo_if_two(*, actor: Actor, now: datetime) -> None:
    """End solo mode for good once two administrators are enrolled; call under `lock`."""
    if enrolled().count() < LEAST:
        return
    left = Installation.objects.filter(id=1, left_solo_at=None).update(left_solo_at=now)
    if left:
        ledger.record(
            "installation.left_solo",
            actor=actor,
            subject=Subject("installation", "1", "This installation"),
            now=now,
        )
