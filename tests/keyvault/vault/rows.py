"""Rows that the tests of the vault and of the Connections stand on."""

from datetime import timedelta

from django.db import transaction

from approvals.ports import Actor
from keyvault.connections.models import Connection
from keyvault.crypto.secret import Secret
from keyvault.inventory.models import DeliveryMode, Key
from keyvault.vault import services
from keyvault.vault.services import Credential

WORKER = Actor("system", "worker", "Worker")


def connection(cast, *, provider="fake", slug="orders", **more):
    return Connection.objects.create(
        slug=slug,
        title=slug.title(),
        provider=provider,
        environment=more.pop("environment", None),
        created_at=cast.now,
        changed_at=cast.now,
        inventory_due_at=more.pop("inventory_due_at", cast.now + timedelta(minutes=10)),
        **more,
    )


def key(cast, where, *, name="billing-agent", **more):
    return Key.objects.create(
        name=name,
        title=name,
        environment=cast.dev,
        connection=where,
        provider=where.provider,
        owner=cast.alice,
        backup_owner=cast.carol,
        team=cast.payments.group,
        purpose="tests",
        volume_per_day=1,
        delivery_mode=DeliveryMode.REVEAL,
        lifetime_days=30,
        cadence_days=30,
        created_at=cast.now,
        **more,
    )


def credential(value="canary-value", *, remote_id="r1", **material):
    fields = material or {"password": value}
    return Credential(
        remote_id=remote_id,
        remote={"remote_id": remote_id},
        public={"username": "billing"},
        material={name: Secret.of(text) for name, text in fields.items()},
    )


def live_version(of, request_id, now, value="canary-value", remote_id="r1"):
    with transaction.atomic():
        begun = services.begin(
            key_id=of.pk, request_id=request_id, now=now, actor=WORKER, server={"host": "db"}
        )
        services.store(
            version_id=begun.pk,
            credential=credential(value, remote_id=remote_id),
            provider="fake",
            now=now,
            actor=WORKER,
        )
        return services.promote(version_id=begun.pk, now=now, actor=WORKER)
