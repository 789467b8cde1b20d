"""Note what opens or closes a pending version to those who may fetch it before it is in use.

The version's own changes are noted already (0007_right_changes); here are the
rotation, which lays it ready and takes it back, and the end of a dependent.
"""

from django.db import migrations

FUNCTION = """
CREATE FUNCTION keyvault_{table}_right_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keyvault_note_right_change('key', NEW.key_id);
    RETURN NULL;
END
$$
"""
# As keyvault.gateway.rows reads it. `held_from` is empty unless the rotation is held.
READY = "({row}.state IN ('staged', 'promoting') OR {row}.held_from IN ('staged', 'promoting'))"
OLD, NEW = READY.format(row="OLD"), READY.format(row="NEW")
WHEN = {
    "rotation": f"{OLD} IS DISTINCT FROM {NEW} OR ({NEW} AND OLD.new_id IS DISTINCT FROM NEW.new_id)",
    "dependent": "NEW.agent_id IS NOT NULL AND OLD.ended_at IS DISTINCT FROM NEW.ended_at",
}
TRIGGER = """
CREATE TRIGGER keyvault_{table}_right_change AFTER UPDATE ON keyvault_{table}
    FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION keyvault_{table}_right_change()
"""


def _forward(table: str, when: str) -> str:
    return f"{FUNCTION.format(table=table)};{TRIGGER.format(table=table, when=when)}"


def _back(table: str) -> str:
    return (
        f"DROP TRIGGER keyvault_{table}_right_change ON keyvault_{table};"
        f" DROP FUNCTION keyvault_{table}_right_change()"
    )


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0024_http_probes")]
    operations = [
        migrations.RunSQL(_forward(table, when), _back(table)) for table, when in WHEN.items()
    ]
