from django.db import migrations, models


class Migration(migrations.Migration):
    """A sign-in that was allowed before this has no epoch, and lapses."""

    dependencies = [("keyvault", "0013_device_logins")]

    operations = [
        migrations.AddField("devicelogin", "epoch", models.PositiveIntegerField(null=True))
    ]
