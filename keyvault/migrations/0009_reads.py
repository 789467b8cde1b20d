"""The tables of reads: one partition a day, append-only, and the two functions that keep the days.

The serving role owns no table, so it can neither make nor drop a partition. Two
functions of the owner do that for it, and neither takes an argument: how long
reads are kept stands in a table that the serving role can only read. What a
stolen serving role can do is to drop in time what is due to be dropped.
"""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q

import keyvault.audit.models

EVENTS = """
CREATE TABLE keyvault_readevent (
    process uuid NOT NULL,
    seq bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    agent_id uuid NOT NULL,
    token varchar(64) NOT NULL,
    key_id uuid NOT NULL,
    key varchar(100) NOT NULL,
    number integer NOT NULL,
    door varchar(8) NOT NULL,
    source varchar(64) NOT NULL,
    request varchar(64) NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (process, seq, at)
) PARTITION BY RANGE (at);
CREATE INDEX read_by_key ON keyvault_readevent (key_id, at);
CREATE INDEX read_by_agent ON keyvault_readevent (agent_id, at);
CREATE TRIGGER keyvault_readevent_append_only BEFORE UPDATE OR DELETE ON keyvault_readevent
    FOR EACH ROW EXECUTE FUNCTION keyvault_refuse_change();
CREATE TRIGGER keyvault_readevent_no_truncate BEFORE TRUNCATE ON keyvault_readevent
    FOR EACH STATEMENT EXECUTE FUNCTION keyvault_refuse_change();
"""
# Row triggers and indexes of the parent are made on each partition by PostgreSQL itself.
# Default privileges would let the serving role at the partition past its parent.
GUARD = """
CREATE FUNCTION keyvault_guard_read_day(name text) RETURNS void LANGUAGE plpgsql
SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER keyvault_no_truncate BEFORE TRUNCATE ON %I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION keyvault_refuse_change()', name);
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kv_app') AND current_user <> 'kv_app' THEN
        EXECUTE format('REVOKE ALL ON %I FROM kv_app', name);
    END IF;
END
$$;
"""
# Reads of a day without a partition are never refused: they go to `other`. A day
# that has rows there stays there.
MAKE = """
CREATE FUNCTION keyvault_make_read_days() RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    made integer := 0;
    name text;
    start_at timestamptz;
    end_at timestamptz;
BEGIN
    IF to_regclass('keyvault_readevent_other') IS NULL THEN
        CREATE TABLE keyvault_readevent_other PARTITION OF keyvault_readevent DEFAULT;
        PERFORM keyvault_guard_read_day('keyvault_readevent_other');
    END IF;
    FOR ahead IN 0..7 LOOP
        start_at := (date_trunc('day', now() AT TIME ZONE 'UTC') + ahead * interval '1 day')
            AT TIME ZONE 'UTC';
        end_at := start_at + interval '24 hours';
        name := 'keyvault_readevent_' || to_char(start_at AT TIME ZONE 'UTC', 'YYYYMMDD');
        CONTINUE WHEN to_regclass(name) IS NOT NULL OR EXISTS (
            SELECT FROM keyvault_readevent_other WHERE at >= start_at AND at < end_at);
        EXECUTE format('CREATE TABLE %I PARTITION OF keyvault_readevent'
            ' FOR VALUES FROM (%L) TO (%L)', name, start_at, end_at);
        PERFORM keyvault_guard_read_day(name);
        made := made + 1;
    END LOOP;
    RETURN made;
END
$$;
"""
# A day is dropped only when the ledger has the event of each of its segments.
DROP = """
CREATE FUNCTION keyvault_drop_read_days() RETURNS TABLE (until timestamptz, reads bigint)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    cutoff timestamptz;
    name text;
BEGIN
    cutoff := (date_trunc('day', now() AT TIME ZONE 'UTC')
        - coalesce((SELECT days FROM keyvault_readretention), 400) * interval '1 day')
        AT TIME ZONE 'UTC';
    IF EXISTS (SELECT FROM keyvault_readsegment WHERE event_id IS NULL AND first_at < cutoff) THEN
        RETURN;
    END IF;
    FOR name, until IN
        SELECT relname, (to_date(right(relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC'
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = 'keyvault_readevent'::regclass
            AND relname ~ '^keyvault_readevent_[0-9]{8}$'
        ORDER BY relname
    LOOP
        CONTINUE WHEN until > cutoff;
        EXECUTE format('SELECT count(*) FROM %I', name) INTO reads;
        EXECUTE format('DROP TABLE %I', name);
        RETURN NEXT;
    END LOOP;
    SELECT max(at), count(*) INTO until, reads FROM keyvault_readevent_other;
    IF until < cutoff THEN
        DROP TABLE keyvault_readevent_other;
        PERFORM keyvault_make_read_days();
        RETURN NEXT;
    END IF;
END
$$;
"""
UNDO = """
DROP FUNCTION keyvault_drop_read_days();
DROP FUNCTION keyvault_make_read_days();
DROP TABLE keyvault_readevent;
DROP FUNCTION keyvault_guard_read_day(text);
"""
SEGMENTS = """
CREATE FUNCTION keyvault_refuse_segment_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.event_id IS NULL AND NEW.event_id IS NOT NULL
            AND to_jsonb(OLD) - 'event_id' = to_jsonb(NEW) - 'event_id' THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'segments of reads are append-only: % is refused', TG_OP
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER keyvault_readsegment_append_only BEFORE UPDATE OR DELETE ON keyvault_readsegment
    FOR EACH ROW EXECUTE FUNCTION keyvault_refuse_segment_change();
CREATE TRIGGER keyvault_readsegment_no_truncate BEFORE TRUNCATE ON keyvault_readsegment
    FOR EACH STATEMENT EXECUTE FUNCTION keyvault_refuse_change();
"""
UNDO_SEGMENTS = """
DROP TRIGGER keyvault_readsegment_no_truncate ON keyvault_readsegment;
DROP TRIGGER keyvault_readsegment_append_only ON keyvault_readsegment;
DROP FUNCTION keyvault_refuse_segment_change();
"""
GRANTS = """
REVOKE ALL ON FUNCTION keyvault_guard_read_day(text), keyvault_make_read_days(),
    keyvault_drop_read_days() FROM PUBLIC;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'kv_app') AND current_user <> 'kv_app' THEN
        REVOKE ALL ON keyvault_readevent, keyvault_readsegment, keyvault_readretention FROM kv_app;
        GRANT SELECT, INSERT ON keyvault_readevent, keyvault_readsegment TO kv_app;
        GRANT UPDATE (event_id) ON keyvault_readsegment TO kv_app;
        GRANT SELECT ON keyvault_readretention TO kv_app;
        GRANT EXECUTE ON FUNCTION keyvault_make_read_days(), keyvault_drop_read_days() TO kv_app;
    END IF;
END
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("keyvault", "0007_right_changes")]
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name="ReadEvent",
                    fields=[
                        (
                            "pk",
                            models.CompositePrimaryKey(
                                "process",
                                "seq",
                                "at",
                                blank=True,
                                editable=False,
                                primary_key=True,
                                serialize=False,
                            ),
                        ),
                        ("process", models.UUIDField()),
                        ("seq", models.BigIntegerField()),
                        ("at", models.DateTimeField()),
                        ("agent_id", models.UUIDField()),
                        ("token", models.CharField(max_length=64)),
                        ("key_id", models.UUIDField()),
                        ("key", models.CharField(max_length=100)),
                        ("number", models.IntegerField()),
                        ("door", models.CharField(max_length=8)),
                        ("source", models.CharField(max_length=64)),
                        ("request", models.CharField(max_length=64)),
                        ("record", models.BinaryField()),
                    ],
                    options={
                        "default_permissions": (),
                        "indexes": [
                            models.Index(fields=["key_id", "at"], name="read_by_key"),
                            models.Index(fields=["agent_id", "at"], name="read_by_agent"),
                        ],
                    },
                ),
            ],
            database_operations=[migrations.RunSQL(EVENTS + GUARD + MAKE + DROP, UNDO)],
        ),
        migrations.CreateModel(
            name="ReadRetention",
            fields=[
                (
                    "id",
                    models.PositiveSmallIntegerField(default=1, primary_key=True, serialize=False),
                ),
                ("days", models.PositiveIntegerField()),
            ],
            options={
                "default_permissions": (),
                "constraints": [
                    models.CheckConstraint(condition=Q(id=1), name="one_retention"),
                    models.CheckConstraint(
                        condition=Q(days__gte=7), name="retention_at_least_a_week"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ReadSegment",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("process", models.UUIDField()),
                ("first", models.BigIntegerField()),
                ("last", models.BigIntegerField()),
                ("count", models.IntegerField()),
                ("root", models.BinaryField(max_length=32)),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                (
                    "closed_at",
                    models.DateTimeField(db_default=keyvault.audit.models.WallClock()),
                ),
                (
                    "event",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="read_segment",
                        to="keyvault.event",
                    ),
                ),
            ],
            options={
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["process", "last"], name="segment_by_last"),
                    models.Index(
                        condition=Q(event=None), fields=["id"], name="segment_without_event"
                    ),
                    models.Index(fields=["first_at"], name="segment_by_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("process", "first"), name="segment_once"),
                    models.CheckConstraint(
                        condition=Q(first__gte=1, count=F("last") - F("first") + 1, count__gte=1),
                        name="segment_is_whole",
                    ),
                ],
            },
        ),
        migrations.RunSQL(SEGMENTS, UNDO_SEGMENTS),
        migrations.RunSQL(GRANTS, migrations.RunSQL.noop),
        migrations.RunSQL("SELECT keyvault_make_read_days()", migrations.RunSQL.noop),
    ]
