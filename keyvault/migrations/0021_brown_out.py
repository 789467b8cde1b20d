from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keyvault", "0020_mass_rotations"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="rotation",
            name="rotation_state_known",
        ),
        migrations.AddField(
            model_name="rotation",
            name="brownout_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="rotation",
            name="misses",
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="version",
            name="suspended_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name="rotation",
            name="state",
            field=models.CharField(
                choices=[
                    ("planned", "Planned"),
                    ("creating", "Creating"),
                    ("reconciling", "Creating"),
                    ("created", "Creating"),
                    ("validated", "Staging"),
                    ("staged", "Staging"),
                    ("promoting", "Rolling out"),
                    ("draining", "Draining"),
                    ("brownout", "Brown-out"),
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
                            "brownout",
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
    ]
