from django.db import migrations, models


class Migration(migrations.Migration):
    """Let each gateway say which keyvault it runs. The database's default serves older ones."""

    dependencies = [("keyvault", "0014_device_login_epoch")]

    operations = [
        migrations.AddField(
            "gatewayinstance",
            "version",
            models.CharField(blank=True, db_default="", max_length=40),
        ),
    ]
