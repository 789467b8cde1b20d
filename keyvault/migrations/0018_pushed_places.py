import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0017_rotations"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="dependent",
            name="dependent_health_known",
        ),
        migrations.RemoveConstraint(
            model_name="dependent",
            name="dependent_of_nobody_is_by_hand",
        ),
        migrations.RemoveConstraint(
            model_name="finding",
            name="finding_kind_known",
        ),
        migrations.AddField(
            model_name="dependent",
            name="connection",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="dependents",
                to="keyvault.connection",
            ),
        ),
        migrations.AddField(
            model_name="dependent",
            name="live_id",
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name="dependent",
            name="push",
            field=models.CharField(
                blank=True,
                choices=[
                    ("", "Nothing was written yet"),
                    ("writing", "Being written"),
                    ("there", "Written"),
                    ("failed", "Could not be written"),
                ],
                default="",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="dependent",
            name="push_note",
            field=models.TextField(blank=True),
        ),
        migrations.AddField(
            model_name="dependent",
            name="pushed_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="dependent",
            name="request_id",
            field=models.UUIDField(null=True),
        ),
        migrations.AddField(
            model_name="dependent",
            name="server",
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name="dependent",
            name="target",
            field=models.JSONField(default=dict),
        ),
        migrations.AddField(
            model_name="dependent",
            name="tried_id",
            field=models.UUIDField(null=True),
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
                ],
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="finding",
            name="kind",
            field=models.CharField(
                choices=[
                    ("orphan", "Credential that nobody owns"),
                    ("dead", "Credential that stopped working"),
                    ("unanswered", "Lost answer of a provider"),
                    ("connection", "Connection with a problem"),
                    ("mismatch", "Sealed value in the wrong place"),
                    ("rotation", "Rotation that waits for a person"),
                    ("place", "Place that cannot be written"),
                    ("use_host", "Key used for an undeclared host"),
                    ("use_volume", "Key used more than declared"),
                    ("use_ended", "Key used without a right"),
                    ("use_by_hand", "Program uses a key meant for a person"),
                ],
                max_length=20,
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.CheckConstraint(
                condition=models.Q(("health__in", ["reads", "reports", "by_hand", "pushed"])),
                name="dependent_health_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.UniqueConstraint(
                condition=models.Q(("connection__isnull", False), ("ended_at", None)),
                fields=("connection", "target"),
                name="dependent_place_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.CheckConstraint(
                condition=models.Q(("push__in", ["", "writing", "there", "failed"])),
                name="dependent_push_known",
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
                    models.Q(("agent", None), ("connection", None), ("health", "by_hand")),
                    models.Q(("agent", None), ("connection__isnull", False), ("health", "pushed")),
                    _connector="OR",
                ),
                name="dependent_is_of_one_kind",
            ),
        ),
        migrations.AddConstraint(
            model_name="finding",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "kind__in",
                        [
                            "orphan",
                            "dead",
                            "unanswered",
                            "connection",
                            "mismatch",
                            "rotation",
                            "place",
                            "use_host",
                            "use_volume",
                            "use_ended",
                            "use_by_hand",
                        ],
                    )
                ),
                name="finding_kind_known",
            ),
        ),
    ]
