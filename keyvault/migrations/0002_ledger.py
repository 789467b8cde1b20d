"""Make the ledger append-only: a trigger on each table, and narrow grants for the serving role.

The triggers hold against every role; only a superuser can switch them off. The
role kv_app, where it exists, may insert and select and nothing else.
"""

from django.db import migrations

TABLES = ("keyvault_event", "keyvault_ledgerleaf", "keyvault_ledgernode", "keyvault_checkpoint")

FUNCTION = """
CREATE FUNCTION keyvault_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % is refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END
$$
"""
TRIGGERS = """
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION keyvault_refuse_change();
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION keyvault_refuse_change();
"""
GRANTS = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kv_app') AND current_user <> 'kv_app' THEN
        REVOKE ALL ON {tables} FROM kv_app;
        GRANT SELECT, INSERT ON {tables} TO kv_app;
    END IF;
END
$$
"""
REVERSE = "DROP TRIGGER {table}_append_only ON {table}; DROP TRIGGER {table}_no_truncate ON {table}"


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0001_initial")]
    operations = [
        migrations.RunSQL(FUNCTION, "DROP FUNCTION keyvault_refuse_change()"),
        *(
            migrations.RunSQL(TRIGGERS.format(table=table), REVERSE.format(table=table))
            for table in TABLES
        ),
        migrations.RunSQL(GRANTS.format(tables=", ".join(TABLES)), migrations.RunSQL.noop),
    ]
