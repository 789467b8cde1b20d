import django.db.models.deletion
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0016_loaded_versions"),
    ]

    operations = [
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("wave", models.PositiveSmallIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("writing", "Writing"),
                            ("restarting", "Restarting"),
                            ("confirmed", "Confirmed"),
                            ("failed", "Failed"),
                            ("excused", "Excused"),
                        ],
                        default="waiting",
                        max_length=12,
                    ),
                ),
                ("has_new", models.BooleanField(default=False)),
                ("note", models.TextField(blank=True)),
                ("confirmed_by", models.CharField(blank=True, max_length=200)),
                ("given_at", models.DateTimeField(null=True)),
                ("confirmed_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["wave", "id"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Dependent",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=120)),
                (
                    "health",
                    models.CharField(
                        choices=[
                            ("reads", "It reads the version from a gateway"),
                            ("reports", "It reports the version by heartbeat"),
                            ("by_hand", "A person says so"),
                        ],
                        max_length=10,
                    ),
                ),
                ("wave", models.PositiveSmallIntegerField(default=0)),
                ("cache_s", models.PositiveIntegerField(default=0)),
                ("is_discovered", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["wave", "name"],
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Rotation",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("request_id", models.UUIDField()),
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
                ("reason", models.TextField(blank=True)),
                ("deploy_id", models.CharField(blank=True, max_length=120)),
                ("slot", models.DateTimeField(null=True)),
                ("started_by", models.CharField(max_length=200)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("planned", "Planned"),
                            ("creating", "Creating"),
                            ("reconciling", "Creating"),
                            ("created", "Creating"),
                            ("validated", "Staging"),
                            ("staged", "Staging"),
                            ("promoting", "Rolling out"),
                            ("draining", "Draining"),
                            ("revoking", "Revoking"),
                            ("revoke_verified", "Revoking"),
                            ("completed", "Done"),
                            ("held", "Held"),
                            ("rolling_back", "Rolling back"),
                            ("rolled_back", "Rolled back"),
                        ],
                        default="planned",
                        max_length=20,
                    ),
                ),
                ("wave", models.PositiveSmallIntegerField(default=0)),
                ("since", models.DateTimeField()),
                ("cause", models.CharField(blank=True, max_length=20)),
                ("sentence", models.TextField(blank=True)),
                ("held_from", models.CharField(blank=True, max_length=20)),
                ("old_id", models.UUIDField(null=True)),
                ("new_id", models.UUIDField(null=True)),
                ("old_verdict", models.CharField(default="untried", max_length=10)),
                ("quiet_since", models.DateTimeField(null=True)),
                ("wants_back", models.BooleanField(default=False)),
                ("may_go_on", models.BooleanField(default=False)),
                ("terms", models.JSONField(default=dict)),
                ("created_at", models.DateTimeField()),
                ("promoted_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
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
        migrations.AddField(
            model_name="attempt",
            name="job_kind",
            field=models.CharField(default="request.execute", max_length=60),
        ),
        migrations.AddField(
            model_name="attempt",
            name="job_subject_id",
            field=models.UUIDField(null=True),
        ),
        # Until now every attempt was made by the job that executes its request.
        migrations.RunSQL(
            "UPDATE keyvault_attempt SET job_subject_id = request_id",
            migrations.RunSQL.noop,
        ),
        migrations.AlterField(
            model_name="attempt",
            name="job_subject_id",
            field=models.UUIDField(),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="job_kind",
            field=models.CharField(max_length=60),
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
            model_name="dependent",
            name="agent",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="dependents",
                to="keyvault.agent",
            ),
        ),
        migrations.AddField(
            model_name="dependent",
            name="key",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="dependents",
                to="keyvault.key",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="dependent",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="keyvault.dependent",
            ),
        ),
        migrations.AddField(
            model_name="rotation",
            name="key",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="rotations",
                to="keyvault.key",
            ),
        ),
        migrations.AddField(
            model_name="delivery",
            name="rotation",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="deliveries",
                to="keyvault.rotation",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.UniqueConstraint(
                condition=models.Q(("ended_at", None)),
                fields=("key", "name"),
                name="dependent_name_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.UniqueConstraint(
                condition=models.Q(("agent__isnull", False), ("ended_at", None)),
                fields=("key", "agent"),
                name="dependent_agent_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.CheckConstraint(
                condition=models.Q(("health__in", ["reads", "reports", "by_hand"])),
                name="dependent_health_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="dependent",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("agent__isnull", False), ("health", "by_hand"), _connector="OR"
                ),
                name="dependent_of_nobody_is_by_hand",
            ),
        ),
        migrations.AddIndex(
            model_name="rotation",
            index=models.Index(
                models.F("created_at"),
                condition=models.Q(("state__in", ("completed", "rolled_back")), _negated=True),
                name="rotation_open",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ("completed", "rolled_back")), _negated=True),
                fields=("key",),
                name="rotation_one_open_per_key",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.UniqueConstraint(fields=("key", "slot"), name="rotation_slot_once"),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        [
                            "planned",
                            "creating",
                            "reconciling",
                            "created",
                            "validated",
                            "staged",
                            "promoting",
                            "draining",
                            "revoking",
                            "revoke_verified",
                            "completed",
                            "held",
                            "rolling_back",
                            "rolled_back",
                        ],
                    )
                ),
                name="rotation_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("trigger__in", ["cadence", "seen", "expiry", "ci", "incident", "manual"])
                ),
                name="rotation_trigger_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(
                        ("state__in", ("completed", "rolled_back")), ("ended_at__isnull", False)
                    ),
                    models.Q(
                        models.Q(("state__in", ("completed", "rolled_back")), _negated=True),
                        ("ended_at", None),
                    ),
                    _connector="OR",
                ),
                name="rotation_ended_has_date",
            ),
        ),
        migrations.AddConstraint(
            model_name="rotation",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("state", "held"), models.Q(("held_from", ""), _negated=True)),
                    models.Q(models.Q(("state", "held"), _negated=True), ("held_from", "")),
                    _connector="OR",
                ),
                name="rotation_held_knows_from_where",
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.UniqueConstraint(
                fields=("rotation", "dependent"), name="delivery_once_per_rotation"
            ),
        ),
        migrations.AddConstraint(
            model_name="delivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        ["waiting", "writing", "restarting", "confirmed", "failed", "excused"],
                    )
                ),
                name="delivery_state_known",
            ),
        ),
    ]
