"""Let the next value of a key come on a fixed day; keys that live go on by their cadence."""

from django.db import migrations, models

PATTERN = (
    "^((mon|tue|wed|thu|fri|sat|sun|"
    + "|".join(str(day) for day in range(1, 29))
    + "|last) ([01][0-9]|2[0-3]):[0-5][0-9])?$"
)


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0025_pending_reads")]
    operations = [
        # The database's default serves processes of the version before.
        migrations.AddField(
            "key",
            "calendar",
            models.CharField(max_length=10, blank=True, default="", db_default=""),
        ),
        migrations.AddConstraint(
            "key",
            models.CheckConstraint(
                condition=models.Q(calendar__regex=PATTERN), name="key_calendar_known"
            ),
        ),
    ]
