from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("approvals", "0004_asked_by"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="is_hasty",
            field=models.BooleanField(db_default=False),
        ),
    ]
