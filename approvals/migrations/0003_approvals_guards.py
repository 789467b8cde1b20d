"""Number requests, and let the database refuse what no service may do."""

from __future__ import annotations

from django.db import migrations

FORWARD = """
CREATE SEQUENCE approvals_request_number START WITH 1001;

CREATE FUNCTION approvals_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER decision_append_only BEFORE UPDATE OR DELETE ON approvals_decision
    FOR EACH ROW EXECUTE FUNCTION approvals_append_only();
CREATE TRIGGER revision_append_only BEFORE UPDATE OR DELETE ON approvals_revision
    FOR EACH ROW EXECUTE FUNCTION approvals_append_only();
CREATE TRIGGER comment_append_only BEFORE UPDATE OR DELETE ON approvals_comment
    FOR EACH ROW EXECUTE FUNCTION approvals_append_only();
CREATE TRIGGER policy_version_append_only BEFORE UPDATE OR DELETE ON approvals_policyversion
    FOR EACH ROW EXECUTE FUNCTION approvals_append_only();

CREATE FUNCTION approvals_decision_names_its_requester() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.requester_id IS DISTINCT FROM
       (SELECT requester_id FROM approvals_request WHERE id = NEW.request_id) THEN
        RAISE EXCEPTION 'a decision repeats the requester of its request'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER decision_requester BEFORE INSERT ON approvals_decision
    FOR EACH ROW EXECUTE FUNCTION approvals_decision_names_its_requester();

CREATE FUNCTION approvals_request_moves_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN ('done', 'rejected', 'expired', 'withdrawn', 'invalidated')
       AND NEW.state IS DISTINCT FROM OLD.state THEN
        RAISE EXCEPTION 'a request that is % stays %', OLD.state, OLD.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state = 'executing' AND OLD.state NOT IN ('approved', 'executing', 'failed') THEN
        RAISE EXCEPTION 'a request runs only once it is approved'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER request_moves_forward BEFORE UPDATE OF state ON approvals_request
    FOR EACH ROW EXECUTE FUNCTION approvals_request_moves_forward();
"""

BACKWARD = """
DROP TRIGGER request_moves_forward ON approvals_request;
DROP FUNCTION approvals_request_moves_forward();
DROP TRIGGER decision_requester ON approvals_decision;
DROP FUNCTION approvals_decision_names_its_requester();
DROP TRIGGER policy_version_append_only ON approvals_policyversion;
DROP TRIGGER comment_append_only ON approvals_comment;
DROP TRIGGER revision_append_only ON approvals_revision;
DROP TRIGGER decision_append_only ON approvals_decision;
DROP FUNCTION approvals_append_only();
DROP SEQUENCE approvals_request_number;
"""


class Migration(migrations.Migration):
    """Add the sequence and the triggers."""

    dependencies = [("approvals", "0002_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
