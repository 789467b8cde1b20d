"""Note every change that can take a right away or move a version, in its own transaction.

The triggers cannot be forgotten by a code path, a worker or a person at psql. A
gateway is woken by the notification and reads the rows of `RightChange` that its
last snapshot did not see, so that a lost notification delays and never loses.
"""

from django.db import migrations

NOTE = """
CREATE FUNCTION keyvault_note_right_change(what text, whom uuid) RETURNS void LANGUAGE sql AS $$
    INSERT INTO keyvault_rightchange (xact, kind, subject_id, at)
    VALUES (pg_current_xact_id()::text::bigint, what, whom, clock_timestamp());
    SELECT pg_notify('keyvault_rights', '');
$$
"""

# Each function takes from its row what a gateway must read again.
SUBJECTS = {
    "accesstoken": ("'token'", "NEW.id"),
    "agent": ("'agent'", "NEW.id"),
    "agentmembership": ("'agent'", "NEW.agent_id"),
    "grant": ("'grant'", "NEW.id"),
    "key": ("'key'", "NEW.id"),
    "version": ("'key'", "NEW.key_id"),
}
FUNCTION = """
CREATE FUNCTION keyvault_{table}_right_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM keyvault_note_right_change({kind}, {subject});
    RETURN NULL;
END
$$
"""
ALWAYS = "AFTER INSERT OR UPDATE ON keyvault_{table} FOR EACH ROW"
# What is written often and gives or takes no right must not wake anybody.
EVENTS = {
    "accesstoken": [ALWAYS],
    "agent": [
        "AFTER INSERT ON keyvault_{table} FOR EACH ROW",
        "AFTER UPDATE ON keyvault_{table} FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)",
    ],
    "agentmembership": [ALWAYS],
    "grant": [ALWAYS + " WHEN (NEW.permission = 'use' AND NEW.user_id IS NULL)"],
    "key": [
        "AFTER UPDATE ON keyvault_{table} FOR EACH ROW WHEN ("
        " (OLD.state, OLD.delivery_mode, OLD.released_at)"
        " IS DISTINCT FROM (NEW.state, NEW.delivery_mode, NEW.released_at))",
    ],
    "version": [
        "AFTER INSERT ON keyvault_{table} FOR EACH ROW",
        "AFTER UPDATE ON keyvault_{table} FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state)",
    ],
}
SEALED = """
CREATE FUNCTION keyvault_sealed_right_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    place record;
BEGIN
    IF TG_OP = 'DELETE' THEN place := OLD; ELSE place := NEW; END IF;
    IF place.subject_kind = 'key' THEN
        PERFORM keyvault_note_right_change('key', place.subject_id);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER keyvault_sealed_right_change AFTER INSERT OR UPDATE OR DELETE ON keyvault_sealed
    FOR EACH ROW EXECUTE FUNCTION keyvault_sealed_right_change();
"""


def _trigger(table: str, number: int, when: str) -> migrations.RunSQL:
    name = f"keyvault_{table}_right_change_{number}"
    return migrations.RunSQL(
        f"CREATE TRIGGER {name} {when.format(table=table)}"
        f" EXECUTE FUNCTION keyvault_{table}_right_change()",
        f"DROP TRIGGER {name} ON keyvault_{table}",
    )


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0006_agents")]
    operations = [
        migrations.RunSQL(NOTE, "DROP FUNCTION keyvault_note_right_change(text, uuid)"),
        *(
            migrations.RunSQL(
                FUNCTION.format(table=table, kind=kind, subject=subject),
                f"DROP FUNCTION keyvault_{table}_right_change()",
            )
            for table, (kind, subject) in SUBJECTS.items()
        ),
        *(
            _trigger(table, number, when)
            for table, events in EVENTS.items()
            for number, when in enumerate(events, 1)
        ),
        migrations.RunSQL(
            SEALED,
            "DROP TRIGGER keyvault_sealed_right_change ON keyvault_sealed;"
            " DROP FUNCTION keyvault_sealed_right_change()",
        ),
    ]
