"""Keys, agents and tokens in bulk, for measuring a gateway: made past the services, in seconds."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from keyvault.crypto import digest, envelope, keyring, keys_dir
from keyvault.crypto.envelope import Context
from keyvault.crypto.secret import Secret

AGENTS = 16
_BATCH = 2000


class Unlimited:
    """A budget of wraps that never ends."""

    def spend(self, kek_id: bytes) -> None:
        """Count nothing."""


@dataclass(frozen=True)
class Fleet:
    """What was made: values by the names of their keys, the texts of tokens, where the keys lie."""

    values: dict[str, str]
    tokens: list[str]
    keys_dir: Path


def load_keys() -> tuple[Path, keyring.Keyring]:
    """Make the keys of the benchmark's installation and load them."""
    path = settings.KEYS_DIR / f"bench-{uuid4().hex}"
    keys_dir.create(path)
    ring = keyring.load(f"file:{path / 'kek'}", environ={}, budget=Unlimited())
    keyring.install(ring)
    digest.install(keys_dir.load(path).index)
    return path, ring


def make(count: int) -> Fleet:
    """Make `count` keys that sixteen agents may use through their team, and a token for each."""
    from keyvault.agents import tokens
    from keyvault.agents.models import AgentMembership
    from keyvault.agents.tokens import Source
    from tests import cast as people
    from tests.keyvault.agents import builders

    path, ring = load_keys()
    cast = people.assemble(now=timezone.now())
    values = {f"key-{number}": secrets.token_urlsafe(32) for number in range(count)}
    with transaction.atomic():
        _insert(cast, values, ring)
        texts = []
        for number in range(AGENTS):
            agent = builders.agent(cast, f"agent-{number}")
            AgentMembership.objects.create(
                agent=agent, group=cast.payments.group, joined_at=cast.now
            )
            issued = tokens.issue(holder=agent, ttl_s=3600, now=cast.now, source=Source())
            texts.append(issued.text.reveal().decode())
    return Fleet(values, texts, path)


def _insert(cast: object, values: dict[str, str], ring: keyring.Keyring) -> None:
    from keyvault.inventory.models import Grant, Key
    from keyvault.vault.models import Sealed, Version
    from tests.keyvault.inventory import builders

    where, now = builders.connection(cast), cast.now
    rows: dict[type, list[object]] = {Key: [], Version: [], Sealed: [], Grant: []}
    for name, value in values.items():
        key = Key(
            id=uuid4(), name=name, title=name, environment=cast.dev, connection=where,
            provider="manual", owner=cast.alice, team=cast.payments.group, purpose="Measured.",
            volume_per_day=1000, delivery_mode="pull", state="live", lifetime_days=90,
            cadence_days=30, created_at=now, live_at=now, expires_at=now + timedelta(days=90),
        )  # fmt: skip
        blob = envelope.seal(
            Secret.of(value), context=Context("key", key.pk, 1, "value"), ring=ring
        )
        rows[Key].append(key)
        version = Version(key=key, number=1, state="current", remote_id=name, created_at=now)
        version.issued_at = version.promoted_at = now
        rows[Version].append(version)
        sealed = Sealed(subject_kind="key", subject_id=key.pk, number=1, field="value", blob=blob)
        sealed.kek_id, sealed.created_at = ring.active_id.hex(), now
        rows[Sealed].append(sealed)
        grant = Grant(key=key, group=cast.payments.group, permission="use", reason="bench")
        grant.starts_at, grant.ends_at = now, now + timedelta(days=30)
        rows[Grant].append(grant)
    for model, made in rows.items():
        model.objects.bulk_create(made, batch_size=_BATCH)
