"""Renew the admin credentials of Connections, and let each remember since when it has its own."""

import django.db.models.deletion
import uuid
from django.db import migrations, models


FILL = """
UPDATE keyvault_connection c
SET credential_at = s.sealed_at
FROM (
    SELECT subject_id, number, max(created_at) AS sealed_at FROM keyvault_sealed
    WHERE subject_kind = 'connection' GROUP BY 1, 2
) s
WHERE s.subject_id = c.id AND s.number = c.credential_number;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0021_brown_out"),
    ]

    operations = [
        migrations.AddField(
            model_name="connection",
            name="credential_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="connection",
            name="renew_days",
            field=models.PositiveSmallIntegerField(null=True),
        ),
        migrations.CreateModel(
            name="Renewal",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("request_id", models.UUIDField()),
                ("started_by", models.CharField(max_length=200)),
                ("number", models.PositiveIntegerField()),
                ("attempt", models.PositiveIntegerField(default=1)),
                ("calls", models.PositiveIntegerField(default=0)),
                ("plan", models.JSONField(default=dict)),
                ("principal", models.CharField(blank=True, max_length=300)),
                ("fingerprint", models.CharField(blank=True, max_length=64)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("planned", "Planned"),
                            ("calling", "Being made"),
                            ("in_use", "New one in use"),
                            ("done", "Done"),
                            ("failed", "Ended without effect"),
                        ],
                        default="planned",
                        max_length=10,
                    ),
                ),
                ("sentence", models.TextField(blank=True)),
                ("held_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField()),
                ("in_use_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                (
                    "connection",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="renewals",
                        to="keyvault.connection",
                    ),
                ),
            ],
            options={
                "ordering": ["-created_at", "id"],
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["done", "failed"]), _negated=True),
                        fields=("connection",),
                        name="renewal_one_open_per_connection",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("state__in", ["planned", "calling", "in_use", "done", "failed"])
                        ),
                        name="renewal_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("state__in", ["done", "failed"]),
                                ("ended_at__isnull", False),
                                ("held_at", None),
                            ),
                            models.Q(
                                models.Q(("state__in", ["done", "failed"]), _negated=True),
                                ("ended_at", None),
                            ),
                            _connector="OR",
                        ),
                        name="renewal_ended_has_date",
                    ),
                ],
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
