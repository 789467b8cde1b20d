"""What the risk of a key that lives hangs on, read from its row."""

from __future__ import annotations

from keyvault.inventory import risk
from keyvault.inventory.models import DeliveryMode, Key


def score(key: Key) -> int:
    """Return the risk of a key, 0 to 100. How long its asker had been known is no part of it."""
    return risk.score(
        risk.Exposure(
            environment=key.environment.slug,
            protected=key.environment.protected,
            lifetime_days=key.lifetime_days,
            cadence_days=key.cadence_days,
            has_backup=key.backup_owner_id is not None,
            allowed_hosts=tuple(key.allowed_hosts),
            volume_per_day=key.volume_per_day,
            external_input=key.external_input,
            read_by_person=key.delivery_mode == DeliveryMode.REVEAL,
            known_days=risk.NEW_REQUESTER_DAYS,
        )
    )
