import django.db.models.deletion
from django.db import migrations, models


def _loose(to: str) -> models.ForeignKey:
    return models.ForeignKey(
        db_constraint=False,
        db_index=False,
        on_delete=django.db.models.deletion.DO_NOTHING,
        related_name="+",
        to=to,
    )


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0015_gateway_version")]

    operations = [
        migrations.CreateModel(
            name="LoadedVersion",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("number", models.IntegerField()),
                ("is_healthy", models.BooleanField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("agent", _loose("keyvault.agent")),
                ("key", _loose("keyvault.key")),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("key", "number", "agent"), name="loaded_version_once"
                    )
                ],
            },
        ),
    ]
