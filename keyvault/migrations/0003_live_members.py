"""The view that `User.groups` reads: memberships that have not ended."""

from django.db import migrations

CREATE = """
CREATE VIEW keyvault_live_member AS
    SELECT id, user_id, group_id
    FROM keyvault_membership
    WHERE left_at IS NULL
"""


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0002_ledger")]

    operations = [migrations.RunSQL(CREATE, "DROP VIEW keyvault_live_member")]
