"""The counter of wraps, allocated in blocks.

A sequence and not a column: `nextval` never rolls back, so a wrap whose
transaction failed still counts, and no writer waits for another. A key's use
is then never under-counted (keyvault.vault.budget).
"""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0004_live_grants")]

    operations = [
        migrations.RunSQL(
            "CREATE SEQUENCE keyvault_wrap_block AS bigint NO CYCLE",
            "DROP SEQUENCE keyvault_wrap_block",
        )
    ]
