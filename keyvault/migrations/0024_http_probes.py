import django.db.models.deletion
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0023_leases"),
    ]

    operations = [
        migrations.CreateModel(
            name="Probe",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("address", models.CharField(max_length=500)),
                ("allowed", models.CharField(blank=True, max_length=300)),
                ("request_id", models.UUIDField(unique=True)),
                ("created_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("asked_at", models.DateTimeField(null=True)),
                (
                    "answer",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("healthy", "Healthy"),
                            ("bad", "Not healthy"),
                            ("none", "No usable answer"),
                            ("refused", "Not let through"),
                        ],
                        max_length=10,
                    ),
                ),
                ("status", models.PositiveSmallIntegerField(default=0)),
                ("healthy_at", models.DateTimeField(null=True)),
                ("number", models.PositiveIntegerField(null=True)),
                ("named_at", models.DateTimeField(null=True)),
                ("bad_count", models.PositiveIntegerField(default=0)),
                ("bad_since", models.DateTimeField(null=True)),
                ("bad_at", models.DateTimeField(null=True)),
            ],
            options={
                "default_permissions": (),
            },
        ),
        migrations.RemoveConstraint(
            model_name="dependent",
            name="dependent_health_known",
        ),
        migrations.RemoveConstraint(
            model_name="dependent",
            name="dependent_is_of_one_kind",
        ),
        migrations.AddField(
            model_name="delivery",
            name="was_healthy",
            field=models.BooleanField(null=True),
        ),
        migrations.AlterField(
            model_name="dependent",
            name="health",
            field=models.CharField(
                choices=[
                    ("reads", "It reads the version from a gateway"),
                    ("reports", "It reports the version by heartbeat"),
                    ("by_hand", "A person says so"),
                    ("pushed", "keyvault writes it there and reads it back"),
                    ("probed", "keyvault asks it over HTTP, and it names the version"),
                ],
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("health__in", ["reads", "reports", "by_hand", "pushed", "probed"])
                ),
                name="dependent_health_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("agent__isnull", False),
                        ("connection", None),
                        models.Q(("health", "pushed"), _negated=True),
                    ),
                    models.Q(
                        ("agent", None), ("connection", None), ("health__in", ["by_hand", "probed"])
                    ),
                    models.Q(("agent", None), ("connection__isnull", False), ("health", "pushed")),
                    _connector="OR",
                ),
                name="dependent_is_of_one_kind",
            ),
        ),
        migrations.AddField(
            model_name="probe",
            name="dependent",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="probes",
                to="keyvault.dependent",
            ),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at", None)),
                fields=("dependent",),
                name="probe_once_per_dependent",
            ),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("answer", ""), ("asked_at", None)),
                    models.Q(
                        ("answer__in", ["healthy", "bad", "none", "refused"]),
                        ("asked_at__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="probe_answer_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("named_at", None), ("number", None)),
                    models.Q(("named_at__isnull", False), ("number__isnull", False)),
                    _connector="OR",
                ),
                name="probe_version_has_date",
            ),
        ),
        migrations.AddConstraint(
            model_name="probe",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("bad_at", None), ("bad_count", 0), ("bad_since", None)),
                    models.Q(
                        ("bad_at__isnull", False),
                        ("bad_count__gt", 0),
                        ("bad_since__isnull", False),
                    ),
                    _connector="OR",
                ),
                name="probe_bad_has_dates",
            ),
        ),
    ]
