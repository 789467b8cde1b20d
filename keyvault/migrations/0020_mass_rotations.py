import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0019_adopted_keys"),
    ]

    operations = [
        migrations.CreateModel(
            name="BatchKey",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("place", models.PositiveIntegerField()),
                ("risk", models.PositiveSmallIntegerField()),
                (
                    "skipped",
                    models.CharField(
                        blank=True,
                        choices=[
                            ("rotating", "It is being rotated already"),
                            ("renewed", "It has a new version since this was asked"),
                            ("ended", "It is not active"),
                            ("by_hand", "A person makes its values"),
                            ("short_lived", "Its values end by themselves"),
                            ("no_provider", "The plug-in of its provider is not loaded"),
                            ("stopped", "The batch was stopped"),
                        ],
                        max_length=20,
                    ),
                ),
                ("settled_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["batch", "place"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="RotationBatch",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("request_id", models.UUIDField(unique=True)),
                (
                    "trigger",
                    models.CharField(
                        choices=[
                            ("cadence", "Its cadence"),
                            ("seen", "A person saw the value"),
                            ("expiry", "It was about to expire"),
                            ("ci", "A deployment"),
                            ("incident", "An incident"),
                            ("manual", "A person"),
                        ],
                        max_length=10,
                    ),
                ),
                ("reason", models.TextField()),
                ("started_by", models.CharField(max_length=200)),
                ("created_at", models.DateTimeField()),
                ("stopped_at", models.DateTimeField(null=True)),
                ("stopped_by", models.CharField(blank=True, max_length=200)),
                ("stopped_for", models.TextField(blank=True)),
            ],
            options={
                "ordering": ["-created_at", "id"],
                "default_permissions": (),
            },
        ),
        migrations.RemoveConstraint(
            model_name="finding",
            name="finding_kind_known",
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
                    ("missed", "Rotation that did not begin on its day"),
                    ("use_host", "Key used for an undeclared host"),
                    ("use_volume", "Key used more than declared"),
                    ("use_ended", "Key used without a right"),
                    ("use_by_hand", "Program uses a key meant for a person"),
                ],
                max_length=20,
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
                            "missed",
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
        migrations.AddField(
            model_name="batchkey",
            name="key",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="batch_keys",
                to="keyvault.key",
            ),
        ),
        migrations.AddField(
            model_name="batchkey",
            name="rotation",
            field=models.OneToOneField(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="batch_key",
                to="keyvault.rotation",
            ),
        ),
        migrations.AddField(
            model_name="rotationbatch",
            name="created_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rotation_batches",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="batchkey",
            name="batch",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="keys",
                to="keyvault.rotationbatch",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotationbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(("trigger__in", ["manual", "incident"])),
                name="batch_trigger_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotationbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("stopped_at", None), ("stopped_by", ""), ("stopped_for", "")),
                    models.Q(
                        ("stopped_at__isnull", False),
                        models.Q(("stopped_by", ""), _negated=True),
                        models.Q(("stopped_for", ""), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="batch_stopped_by_somebody",
            ),
        ),
        migrations.AddIndex(
            model_name="batchkey",
            index=models.Index(
                models.F("batch"),
                models.F("place"),
                condition=models.Q(("settled_at", None)),
                name="batch_key_waiting",
            ),
        ),
        migrations.AddConstraint(
            model_name="batchkey",
            constraint=models.UniqueConstraint(fields=("batch", "key"), name="batch_key_once"),
        ),
        migrations.AddConstraint(
            model_name="batchkey",
            constraint=models.UniqueConstraint(fields=("batch", "place"), name="batch_place_once"),
        ),
        migrations.AddConstraint(
            model_name="batchkey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("skipped", ""),
                    (
                        "skipped__in",
                        [
                            "rotating",
                            "renewed",
                            "ended",
                            "by_hand",
                            "short_lived",
                            "no_provider",
                            "stopped",
                        ],
                    ),
                    _connector="OR",
                ),
                name="batch_skip_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="batchkey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("rotation", None), ("settled_at", None), ("skipped", "")),
                    models.Q(
                        ("rotation", None),
                        ("settled_at__isnull", False),
                        models.Q(("skipped", ""), _negated=True),
                    ),
                    models.Q(
                        ("rotation__isnull", False), ("settled_at__isnull", False), ("skipped", "")
                    ),
                    _connector="OR",
                ),
                name="batch_key_begun_or_skipped",
            ),
        ),
    ]
