"""Let each version remember the server that issued it.

A version is given the server of its Connection's settings unless the ledger
says that these were changed after it was begun. What is then not known stays
empty: such a version is revoked by hand, and never where it may not be.
"""

from django.db import migrations, models

# What names a server, as the built-in providers mark it; of any other plug-in
# every setting counts.
FILL = """
UPDATE keyvault_version v
SET server = jsonb_strip_nulls(jsonb_build_object('provider', c.provider) || CASE c.provider
    WHEN 'postgresql' THEN jsonb_build_object(
        'host', c.config ->> 'host', 'port', coalesce(c.config ->> 'port', '5432'))
    WHEN 'valkey' THEN jsonb_build_object(
        'host', c.config ->> 'host', 'port', coalesce(c.config ->> 'port', '6379'))
    WHEN 'manual' THEN jsonb_build_object('where', c.config ->> 'where')
    ELSE c.config
END)
FROM keyvault_key k
JOIN keyvault_connection c ON c.id = k.connection_id
WHERE k.id = v.key_id
  AND NOT EXISTS (
    SELECT 1 FROM keyvault_event e
    WHERE e.subject_kind = 'connection'
      AND e.subject_id = c.id::text
      AND e.event = 'connection.changed'
      AND e.fields -> 'fields' ? 'config'
      AND e.acted_at >= v.created_at
  );
"""


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0007_right_changes")]

    operations = [
        migrations.AddField("version", "server", models.JSONField(default=dict)),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
