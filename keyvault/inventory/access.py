"""The one gate to keys: what a person may do with one, and which ones they may see.

Rights come from grants that hold now, which django-guardian reads through
views, and from two roles. Nothing is cached: a right that was lost is gone at
the next statement.
"""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet
from guardian.shortcuts import get_objects_for_user

from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import ADMINISTRATORS, AUDITORS, User
from keyvault.inventory.models import Key, KeyPermission

ROLE_PERMISSIONS: dict[str, frozenset[str]] = {
    AUDITORS: frozenset({KeyPermission.VIEW}),
    # An administrator can have an orphaned key revoked, and never sees a value by role.
    ADMINISTRATORS: frozenset({KeyPermission.VIEW, KeyPermission.REVOKE, KeyPermission.MANAGE}),
}


def access_key(person: User, reference: UUID | str, permission: str) -> Key:
    """Return the key with this id or exact name, if the person has `permission` on it.

    Raises NotVisible: the same for a key that does not exist, that was never
    created, that the person may not see, or may not treat so.
    """
    key = find(reference)
    if key is None or permission not in permissions(person, key):
        raise NotVisible(f"key {reference}")
    return key


def find(reference: UUID | str) -> Key | None:
    """Return a key by id or exact name, unless its request ended undone. For other gates only."""
    by = {"pk": reference} if isinstance(reference, UUID) else {"name": reference}
    keys = Key.objects.filter(released_at=None, **by)
    return keys.select_related("environment", "connection", "owner", "backup_owner", "team").first()


def permissions(person: User, key: Key) -> frozenset[str]:
    """Return what a person may do with a key at this moment."""
    if not person.is_active:
        return frozenset()
    granted = {
        permission
        for name in person.get_all_permissions(key)
        if (permission := name.removesuffix("_key")) in KeyPermission.values
    }
    held = frozenset(granted).union(*_by_role(person))
    # Who may ask to change a key may ask for a new value of it: a rotation takes nothing away.
    return held | {KeyPermission.ROTATE} if KeyPermission.MANAGE in held else held


def visible_keys(person: User) -> QuerySet[Key]:
    """Return the keys that a person may see now; every list starts from here."""
    keys = Key.objects.filter(released_at=None)
    if not person.is_active:
        return keys.none()
    if any(KeyPermission.VIEW in held for held in _by_role(person)):
        return keys
    found: QuerySet[Key] = get_objects_for_user(
        person, f"keyvault.{KeyPermission.VIEW}_key", keys, accept_global_perms=False
    )
    return found


def rotatable_keys(person: User) -> QuerySet[Key]:
    """Return the keys that a person may have rotated now, as `permissions` judges one of them."""
    keys = Key.objects.filter(released_at=None)
    if not person.is_active:
        return keys.none()
    if any(KeyPermission.MANAGE in held for held in _by_role(person)):
        return keys
    wanted = [f"keyvault.{name}_key" for name in (KeyPermission.ROTATE, KeyPermission.MANAGE)]
    found: QuerySet[Key] = get_objects_for_user(
        person, wanted, keys, any_perm=True, accept_global_perms=False
    )
    return found


def _by_role(person: User) -> list[frozenset[str]]:
    held = people.roles(person)
    return [rights for role, rights in ROLE_PERMISSIONS.items() if role in held]
