"""Let a lease that was taken count as a use of its key."""

from django.db import migrations, models

KINDS = ["gateway", "reported", "lease"]


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0026_calendar")]
    operations = [
        migrations.RemoveConstraint("usagehour", "usage_kind_known"),
        migrations.AddConstraint(
            "usagehour",
            models.CheckConstraint(condition=models.Q(kind__in=KINDS), name="usage_kind_known"),
        ),
        migrations.AlterField(
            "usagehour",
            "kind",
            models.CharField(
                max_length=10,
                choices=[
                    ("gateway", "Read from a gateway"),
                    ("reported", "Reported by its user"),
                    ("lease", "Taken for one run"),
                ],
            ),
        ),
    ]
