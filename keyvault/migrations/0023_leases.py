import django.contrib.postgres.fields
import django.db.models.deletion
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0022_admin_renewals"),
    ]

    operations = [
        migrations.CreateModel(
            name="Lease",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=120), default=list, size=None
                    ),
                ),
                ("server", models.JSONField(default=dict)),
                ("remote_id", models.CharField(blank=True, max_length=300)),
                ("remote", models.JSONField(default=dict)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("minting", "Being made"),
                            ("open", "Open"),
                            ("ending", "Ending"),
                            ("returned", "Returned"),
                            ("expired", "Over"),
                            ("withdrawn", "Withdrawn"),
                            ("orphaned", "Lost"),
                            ("failed", "Failed"),
                        ],
                        default="minting",
                        max_length=10,
                    ),
                ),
                ("aim", models.CharField(blank=True, max_length=10)),
                ("cause", models.CharField(blank=True, max_length=300)),
                ("created_at", models.DateTimeField()),
                ("taken_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField()),
                ("lapses_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "agent",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="leases",
                        to="keyvault.agent",
                    ),
                ),
                (
                    "key",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="leases",
                        to="keyvault.key",
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "id"],
                "default_permissions": (),
                "indexes": [
                    models.Index(
                        models.F("expires_at"),
                        condition=models.Q(
                            ("state__in", ("minting", "open", "ending", "orphaned"))
                        ),
                        name="lease_living",
                    ),
                    models.Index(fields=["key", "-created_at"], name="lease_by_key"),
                    models.Index(fields=["agent", "-created_at"], name="lease_by_agent"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                [
                                    "minting",
                                    "open",
                                    "ending",
                                    "returned",
                                    "expired",
                                    "withdrawn",
                                    "orphaned",
                                    "failed",
                                ],
                            )
                        ),
                        name="lease_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("aim__in", ("returned", "expired", "withdrawn")),
                                ("state", "ending"),
                            ),
                            models.Q(models.Q(("state", "ending"), _negated=True), ("aim", "")),
                            _connector="OR",
                        ),
                        name="lease_ending_has_aim",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("ended_at", None),
                                ("state__in", ("minting", "open", "ending", "orphaned")),
                            ),
                            models.Q(
                                models.Q(
                                    ("state__in", ("minting", "open", "ending", "orphaned")),
                                    _negated=True,
                                ),
                                ("ended_at__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="lease_ended_has_date",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("state", "open"), _negated=True),
                            ("taken_at__isnull", False),
                            _connector="OR",
                        ),
                        name="lease_open_was_taken",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expires_at__gt", models.F("created_at")),
                            ("lapses_at__gte", models.F("expires_at")),
                        ),
                        name="lease_ends_later",
                    ),
                ],
            },
        ),
    ]
