"""Remember whether somebody on duty suspended an agent: its owner cannot lift that."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0007_right_changes")]
    operations = [
        migrations.AddField("agent", "contained", models.BooleanField(default=False)),
        migrations.AddConstraint(
            "agent",
            models.CheckConstraint(
                condition=Q(contained=False) | ~Q(state="active"),
                name="agent_contained_is_stopped",
            ),
        ),
    ]
