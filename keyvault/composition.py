"""Join the parts once Django is up: ports, keys, actions, job handlers and plug-ins.

Imported by `KeyvaultConfig.ready` alone, when every model exists. Importing a
module of actions or job handlers registers what it holds.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import entry_points
from itertools import chain

from django.conf import settings

from approvals import execution, notify, ports
from keyvault import celery
from keyvault.accounts.presence import Presence
from keyvault.actions import (
    add_place,
    add_probe,
    adopt_keys,
    bind_agent,
    change_connection,
    change_key,
    change_keys,
    change_membership,
    change_owner,
    change_trust,
    create_key,
    create_team,
    deactivate_person,
    finish_rotation,
    grant_access,
    installation,
    invite_person,
    join_agent,
    recover_administrator,
    remove_place,
    renew_connection,
    reset_factor,
    reveal_secret,
    revoke_key,
    rotate_key,
    rotate_keys,
    try_connection,
)
from keyvault.agents.directory import Directory
from keyvault.audit import checkpoints, ledger, verifications
from keyvault.connections import kinds, reconcile, renewing
from keyvault.crypto import digest, keyring, keys_dir, signing
from keyvault.destinations import registry as destinations
from keyvault.leases import endings as leases
from keyvault.plugins import loading
from keyvault.providers import registry as providers
from keyvault.rotation import delivering
from keyvault.rotation import running as rotation
from keyvault.vault import seals
from keyvault.vault.budget import DatabaseBudget

log = logging.getLogger(__name__)

# Importing these registered their actions and job handlers; importing celery made its
# application the current one, without which a message goes to a server that nobody set.
__all__ = [
    "add_place",
    "add_probe",
    "adopt_keys",
    "bind_agent",
    "celery",
    "change_connection",
    "change_key",
    "change_keys",
    "change_membership",
    "change_owner",
    "change_trust",
    "compose",
    "create_key",
    "create_team",
    "deactivate_person",
    "delivering",
    "execution",
    "finish_rotation",
    "grant_access",
    "installation",
    "invite_person",
    "join_agent",
    "leases",
    "notify",
    "reconcile",
    "recover_administrator",
    "remove_place",
    "renew_connection",
    "renewing",
    "reset_factor",
    "reveal_secret",
    "revoke_key",
    "rotate_key",
    "rotate_keys",
    "rotation",
    "try_connection",
    "verifications",
]


def compose() -> None:
    """Load the keys, bind approvals' ports and load the allowed plug-ins.

    Whatever key is missing, the process starts: sealed, saying why. Raises
    loading.BadPlugin when an allowed plug-in does not load.
    """
    _load_keyring()
    keys = _load_keys()
    ports.bind(
        recorder=ledger,
        signer=keys.receipt if keys else None,
        directory=Directory(),
        presence=Presence(),
    )
    checkpoints.install(keys.checkpoint if keys else None)
    _load_plugins()


def _load_plugins() -> None:
    points = {group: entry_points(group=group) for group in (providers.GROUP, destinations.GROUP)}
    loading.require_installed(settings.ALLOWED_PLUGINS, chain.from_iterable(points.values()))
    providers.load(allowed=settings.ALLOWED_PLUGINS, found=points[providers.GROUP])
    destinations.load(
        allowed=settings.ALLOWED_PLUGINS,
        found=points[destinations.GROUP],
        file_roots=settings.ENV_FILE_ROOTS,
    )
    kinds.require_disjoint()


def _load_keyring() -> None:
    try:
        ring = keyring.load(settings.KEK, environ=os.environ, budget=DatabaseBudget())
    except keyring.NoKey as missing:
        keyring.uninstall(str(missing))
        log.warning("sealed start: %s", missing)
    else:
        keyring.install(ring, guard=seals.guard)


def _load_keys() -> keys_dir.Keys | None:
    try:
        keys = keys_dir.load(settings.KEYS_DIR)
    except (keys_dir.NoKeysDir, signing.BadKey) as missing:
        log.warning("sealed start: %s", missing)
        return None
    digest.install(keys.index)
    return keys
