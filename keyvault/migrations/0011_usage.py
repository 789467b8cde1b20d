"""The tables of usage, and one way for reads and usage to keep their days.

`keyvault_make_days` and `keyvault_drop_days` work for every table that is
partitioned by day; only the owner may call them. The serving role calls one
pair of functions for reads and one for usage.

Reported usage is no evidence, unlike reads: `keyvault_drop_usage_days` takes
its bound from the caller, but never drops what is younger than a week.
"""

import importlib

import django.contrib.postgres.indexes
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import Q

READS = importlib.import_module("keyvault.migrations.0009_reads")
KINDS = ["gateway", "reported"]
FINDINGS = [
    ("orphan", "Credential that nobody owns"),
    ("dead", "Credential that stopped working"),
    ("unanswered", "Lost answer of a provider"),
    ("connection", "Connection with a problem"),
    ("mismatch", "Sealed value in the wrong place"),
    ("use_host", "Key used for an undeclared host"),
    ("use_volume", "Key used more than declared"),
    ("use_ended", "Key used without a right"),
    ("use_by_hand", "Program uses a key meant for a person"),
]

EVENTS = """
CREATE TABLE keyvault_usageevent (
    id bigserial NOT NULL,
    at timestamp with time zone NOT NULL,
    reported_at timestamp with time zone NOT NULL,
    key_id uuid NOT NULL,
    agent_id uuid,
    user_id uuid,
    number integer,
    host varchar(253) NOT NULL,
    count integer NOT NULL,
    PRIMARY KEY (at, id)
) PARTITION BY RANGE (at);
CREATE INDEX usage_by_key ON keyvault_usageevent (key_id, at);
CREATE TRIGGER keyvault_usageevent_append_only BEFORE UPDATE OR DELETE ON keyvault_usageevent
    FOR EACH ROW EXECUTE FUNCTION keyvault_refuse_change();
CREATE TRIGGER keyvault_usageevent_no_truncate BEFORE TRUNCATE ON keyvault_usageevent
    FOR EACH STATEMENT EXECUTE FUNCTION keyvault_refuse_change();
"""
# Rows of a day without a partition are never refused: they go to `other`. A day that has
# rows there stays there. The guard of 0009_reads is one for every partition.
DAYS = """
ALTER FUNCTION keyvault_guard_read_day(text) RENAME TO keyvault_guard_day;
CREATE FUNCTION keyvault_make_days(parent text, since integer DEFAULT 0) RETURNS integer LANGUAGE plpgsql
SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    made integer := 0;
    other text := parent || '_other';
    name text;
    start_at timestamptz;
    end_at timestamptz;
    is_taken boolean;
BEGIN
    IF to_regclass(other) IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', other, parent);
        PERFORM keyvault_guard_day(other);
    END IF;
    FOR ahead IN since..7 LOOP
        start_at := (date_trunc('day', now() AT TIME ZONE 'UTC') + ahead * interval '1 day')
            AT TIME ZONE 'UTC';
        end_at := start_at + interval '24 hours';
        name := parent || '_' || to_char(start_at AT TIME ZONE 'UTC', 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE at >= $1 AND at < $2)', other)
            INTO is_taken USING start_at, end_at;
        CONTINUE WHEN is_taken;
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
            name, parent, start_at, end_at);
        PERFORM keyvault_guard_day(name);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
CREATE FUNCTION keyvault_drop_days(parent text, cutoff timestamptz)
RETURNS TABLE (until timestamptz, dropped bigint) LANGUAGE plpgsql
SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    other text := parent || '_other';
    name text;
BEGIN
    FOR name, until IN
        SELECT relname, (to_date(right(relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC'
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = parent::regclass AND relname ~ ('^' || parent || '_[0-9]{8}$')
        ORDER BY relname
    LOOP
        CONTINUE WHEN until > cutoff;
        EXECUTE format('SELECT count(*) FROM %I', name) INTO dropped;
        EXECUTE format('DROP TABLE %I', name);
        RETURN NEXT;
    END LOOP;
    IF to_regclass(other) IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT max(at), count(*) FROM %I', other) INTO until, dropped;
    IF until < cutoff THEN
        EXECUTE format('DROP TABLE %I', other);
        PERFORM keyvault_make_days(parent);
        until := until + interval '1 microsecond';
        RETURN NEXT;
    END IF;
END
$$;
CREATE FUNCTION keyvault_day_before(days integer) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') - days * interval '1 day')
        AT TIME ZONE 'UTC'
$$;
CREATE OR REPLACE FUNCTION keyvault_make_read_days() RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT keyvault_make_days('keyvault_readevent')
$$;
CREATE OR REPLACE FUNCTION keyvault_drop_read_days()
RETURNS TABLE (until timestamptz, reads bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    cutoff timestamptz := keyvault_day_before(
        coalesce((SELECT days FROM keyvault_readretention), 400));
BEGIN
    -- A day is dropped only when the ledger has the event of each of its segments, and when
    -- its reads are counted.
    IF EXISTS (SELECT FROM keyvault_readsegment WHERE event_id IS NULL AND first_at < cutoff)
        OR EXISTS (SELECT FROM keyvault_usagedue JOIN keyvault_readsegment ON id = segment_id
            WHERE first_at < cutoff) THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM keyvault_drop_days('keyvault_readevent', cutoff);
END
$$;
CREATE FUNCTION keyvault_make_usage_days() RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    -- Uses may be reported for the last 24 hours.
    SELECT keyvault_make_days('keyvault_usageevent', -1)
$$;
CREATE FUNCTION keyvault_drop_usage_days(days integer)
RETURNS TABLE (until timestamptz, uses bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT * FROM keyvault_drop_days('keyvault_usageevent', keyvault_day_before(greatest(days, 7)))
$$;
"""
DUE = """
CREATE FUNCTION keyvault_note_usage_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO keyvault_usagedue (segment_id) VALUES (NEW.id);
    RETURN NEW;
END
$$;
CREATE TRIGGER keyvault_readsegment_usage_due AFTER INSERT ON keyvault_readsegment
    FOR EACH ROW EXECUTE FUNCTION keyvault_note_usage_due();
INSERT INTO keyvault_usagedue (segment_id) SELECT id FROM keyvault_readsegment;
"""
UNDO_DUE = """
DROP TRIGGER keyvault_readsegment_usage_due ON keyvault_readsegment;
DROP FUNCTION keyvault_note_usage_due();
"""
GRANTS = """
REVOKE ALL ON FUNCTION keyvault_make_days(text, integer),
    keyvault_drop_days(text, timestamptz), keyvault_day_before(integer),
    keyvault_make_usage_days(), keyvault_drop_usage_days(integer) FROM PUBLIC;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kv_app') AND current_user <> 'kv_app' THEN
        REVOKE ALL ON keyvault_usageevent FROM kv_app;
        GRANT SELECT, INSERT ON keyvault_usageevent TO kv_app;
        GRANT USAGE ON SEQUENCE keyvault_usageevent_id_seq TO kv_app;
        GRANT SELECT, INSERT, UPDATE, DELETE ON keyvault_usagedue TO kv_app;
        GRANT EXECUTE ON FUNCTION keyvault_make_usage_days(), keyvault_drop_usage_days(integer)
            TO kv_app;
    END IF;
END
$$;
"""


def replacing(sql):
    return sql.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")


UNDO = f"""
ALTER FUNCTION keyvault_guard_day(text) RENAME TO keyvault_guard_read_day;
{replacing(READS.MAKE)}
{replacing(READS.DROP)}
DROP FUNCTION keyvault_drop_usage_days(integer);
DROP FUNCTION keyvault_make_usage_days();
DROP FUNCTION keyvault_day_before(integer);
DROP FUNCTION keyvault_drop_days(text, timestamptz);
DROP FUNCTION keyvault_make_days(text, integer);
DROP TABLE keyvault_usageevent;
"""


def loose(to):
    return models.ForeignKey(
        to,
        on_delete=django.db.models.deletion.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="+",
        null=to != "keyvault.key",
    )


class Migration(migrations.Migration):
    # The three leaves of what this was built on; whoever renumbers leaves the last one.
    dependencies = [("keyvault", "0010_agent_contained")]
    operations = [
        migrations.RemoveConstraint("finding", "finding_kind_known"),
        migrations.AlterField("finding", "kind", models.CharField(max_length=20, choices=FINDINGS)),
        migrations.AddConstraint(
            "finding",
            models.CheckConstraint(
                condition=Q(kind__in=[value for value, _ in FINDINGS]), name="finding_kind_known"
            ),
        ),
        migrations.CreateModel(
            name="UsageDue",
            fields=[
                (
                    "segment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="keyvault.readsegment",
                    ),
                ),
            ],
            options={"default_permissions": ()},
        ),
        migrations.CreateModel(
            name="UsageHour",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", loose("keyvault.key")),
                ("agent", loose("keyvault.agent")),
                ("user", loose(settings.AUTH_USER_MODEL)),
                ("host", models.CharField(max_length=253)),
                (
                    "kind",
                    models.CharField(
                        max_length=10,
                        choices=[
                            ("gateway", "Read from a gateway"),
                            ("reported", "Reported by its user"),
                        ],
                    ),
                ),
                ("hour", models.DateTimeField()),
                ("count", models.BigIntegerField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=["key", "hour", "agent", "user", "host", "kind"],
                        name="usage_hour_once",
                        nulls_distinct=False,
                    ),
                    models.CheckConstraint(condition=Q(kind__in=KINDS), name="usage_kind_known"),
                    models.CheckConstraint(
                        condition=Q(count__gte=1), name="usage_counts_something"
                    ),
                ],
                "indexes": [
                    models.Index(
                        fields=["agent", "hour"],
                        condition=Q(agent__isnull=False),
                        name="usage_hour_by_agent",
                    ),
                    django.contrib.postgres.indexes.BrinIndex(
                        fields=["hour"], name="usage_hour_by_time", autosummarize=True
                    ),
                ],
            },
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="UsageEvent",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "at",
                                "id",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("id", models.BigIntegerField()),
                        ("at", models.DateTimeField()),
                        ("reported_at", models.DateTimeField()),
                        ("key_id", models.UUIDField()),
                        ("agent", loose("keyvault.agent")),
                        ("user", loose(settings.AUTH_USER_MODEL)),
                        ("number", models.IntegerField(null=True)),
                        ("host", models.CharField(max_length=253)),
                        ("count", models.IntegerField()),
                    ],
                    options={
                        "default_permissions": (),
                        "indexes": [models.Index(fields=["key_id", "at"], name="usage_by_key")],
                    },
                ),
            ],
            database_operations=[migrations.RunSQL(EVENTS + DAYS, UNDO)],
        ),
        migrations.RunSQL(DUE, UNDO_DUE),
        migrations.RunSQL(GRANTS, migrations.RunSQL.noop),
        migrations.RunSQL("SELECT keyvault_make_usage_days()", migrations.RunSQL.noop),
    ]
