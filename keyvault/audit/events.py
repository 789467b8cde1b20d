"""The closed list of event names, and the fields that each may carry.

A name or a field that is not listed here is refused by the ledger; a test
compares the list with docs/events.md.
"""

from __future__ import annotations

EVENTS: dict[str, frozenset[str]] = {
    # approvals
    "request.submitted": frozenset({"kind", "plan_digest", "policy", "policy_version", "revision"}),
    "request.revised": frozenset({"plan_digest", "revision", "cause"}),
    "request.decided": frozenset(
        {
            "verdict",
            "plan_digest",
            "revision",
            "method",
            "age_s",
            "stage",
            "comment",
            "receipt_digest",
            "solo",
            "state",
        }
    ),
    "request.commented": frozenset({"comment"}),
    "request.withdrawn": frozenset(),
    "request.expired": frozenset(),
    "request.invalidated": frozenset({"cause"}),
    "request.executing": frozenset({"plan_digest", "attempt"}),
    "request.done": frozenset({"sentence"}),
    "request.failed": frozenset({"code", "sentence"}),
    "job.held": frozenset({"kind", "code", "sentence", "attempts"}),
    "job.resumed": frozenset({"kind"}),
    "job.refused": frozenset({"kind", "cause"}),
    "policy.saved": frozenset({"name", "version"}),
    # accounts
    "person.created": frozenset({"username"}),
    "person.deactivated": frozenset(),
    "person.invited": frozenset({"username", "groups", "purpose"}),
    "team.created": frozenset({"kind"}),
    "membership.joined": frozenset({"group"}),
    "membership.left": frozenset({"group"}),
    "factor.enrolled": frozenset({"method"}),
    "factor.replaced": frozenset({"method"}),
    "factor.reset": frozenset(),
    "recovery_codes.issued": frozenset({"count"}),
    "recovery.asked": frozenset({"opens_at"}),
    "recovery.cancelled": frozenset(),
    "recovery.opened": frozenset(),
    "recovery_code.used": frozenset({"left"}),
    "password.changed": frozenset(),
    "session.opened": frozenset({"method"}),
    "session.closed": frozenset(),
    "sessions.ended": frozenset(),
    "lockout.started": frozenset({"scope", "failures", "until"}),
    "invitation.code_shown": frozenset({"username"}),
    "invitation.used": frozenset({"username", "purpose"}),
    "invitation.withdrawn": frozenset({"username"}),
    "installation.token_made": frozenset({"expires_at"}),
    "installation.set_up": frozenset({"administrator"}),
    "installation.left_solo": frozenset(),
    # vault
    "kek.registered": frozenset({"kek_id"}),
    "version.created": frozenset({"number", "fields"}),
    "version.issued": frozenset({"number", "remote_id", "provider"}),
    "version.adopted": frozenset({"number", "remote_id", "fields"}),
    "version.promoted": frozenset({"number", "remote_id", "previous"}),
    "version.fell_back": frozenset({"number", "remote_id", "previous"}),
    "version.suspended": frozenset({"number", "remote_id"}),
    "version.resumed": frozenset({"number", "remote_id"}),
    "version.revoked": frozenset({"number", "remote_id", "cause"}),
    "version.destroyed": frozenset({"number", "fields", "cause"}),
    "secret.opened": frozenset({"number", "fields", "purpose", "digest"}),
    "secret.revealed": frozenset({"number", "fields", "digest", "method"}),
    "secret.reveal_refused": frozenset({"number", "cause"}),
    "crypto.context_mismatch": frozenset({"kind", "number", "field", "purpose"}),
    # findings
    "finding.opened": frozenset({"kind", "sentence", "detail"}),
    "finding.closed": frozenset({"kind", "sentence", "detail"}),
    # connections
    "connection.created": frozenset({"revision", "provider", "fields", "credential"}),
    "connection.changed": frozenset({"revision", "provider", "fields", "credential"}),
    "connection.checked": frozenset({"problems", "verdict"}),
    "renewal.started": frozenset({"renewal", "number", "started_by"}),
    "renewal.called": frozenset({"renewal", "number", "calls"}),
    "renewal.moved": frozenset({"renewal", "number", "state", "before", "sentence"}),
    "renewal.held": frozenset({"renewal", "number", "state", "sentence"}),
    "renewal.resumed": frozenset({"renewal", "number", "state"}),
    "trial.started": frozenset({"trial", "started_by"}),
    "trial.called": frozenset({"trial", "attempt", "tag"}),
    "trial.stepped": frozenset({"trial", "attempt", "step", "outcome", "sentence"}),
    "trial.moved": frozenset({"trial", "attempt", "state", "before", "sentence"}),
    "connection.inventoried": frozenset({"known", "orphans", "foreign"}),
    "connection.orphan_revoked": frozenset({"remote_id", "tag"}),
    "attempt.written": frozenset({"act", "number", "tag", "provider"}),
    "attempt.unanswered": frozenset({"act", "number", "tag", "code", "sentence"}),
    "attempt.settled": frozenset({"act", "number", "tag", "state", "note"}),
    "intake.received": frozenset({"number", "fields", "act"}),
    "adoption.proposed": frozenset({"fingerprint", "remote_id", "connection"}),
    "adoption.dropped": frozenset({"fingerprint"}),
    "import.received": frozenset({"keys", "asked", "duplicates"}),
    # inventory
    "environment.created": frozenset({"protected"}),
    "key.requested": frozenset(
        {"name", "environment", "provider", "connection", "team", "lifetime_days"}
    ),
    "key.redeclared": frozenset(
        {"name", "environment", "provider", "connection", "team", "lifetime_days"}
    ),
    "key.released": frozenset({"state"}),
    "key.live": frozenset({"expires_at"}),
    "key.changed": frozenset({"fields"}),
    "key.renamed": frozenset({"title"}),
    "key.revoked": frozenset(),
    "dependent.registered": frozenset({"dependent", "wave", "health"}),
    "dependent.pushed": frozenset({"dependent", "wave", "health", "number"}),
    "dependent.removed": frozenset({"dependent", "wave", "health"}),
    "dependent.ended": frozenset({"dependent", "wave", "health"}),
    "place.checked": frozenset({"connection", "problems"}),
    "dependent.probe_set": frozenset({"dependent", "address"}),
    "dependent.probe_ended": frozenset({"dependent", "address"}),
    "rotation.started": frozenset({"rotation", "trigger", "old", "deploy_id"}),
    "rotation.moved": frozenset({"rotation", "state", "before", "wave", "cause"}),
    "rotation.chosen": frozenset({"rotation", "choice", "reason"}),
    "rotation.delivered": frozenset({"rotation", "dependent", "state", "note"}),
    "rotation.skipped": frozenset({"batch", "cause"}),
    "rotation.hurried": frozenset({"rotation", "reason", "grace_s", "quiet_s", "brownout_s"}),
    "rotation.batch_created": frozenset({"batch", "trigger", "keys"}),
    "rotation.batch_stopped": frozenset({"batch", "reason", "left"}),
    "key.rotation_due": frozenset({"cause", "due_at"}),
    "grant.given": frozenset(
        {"permission", "holder_kind", "holder", "reason", "starts_at", "ends_at"}
    ),
    "grant.ended": frozenset(
        {"permission", "holder_kind", "holder", "reason", "starts_at", "ends_at"}
    ),
    # agents
    "agent.registered": frozenset({"team", "owner", "backup_owner", "reads_outside_text"}),
    "agent.changed": frozenset({"fields"}),
    "agent.owner_changed": frozenset(
        {"owner", "backup_owner", "owner_before", "backup_owner_before"}
    ),
    "agent.joined": frozenset({"group"}),
    "agent.left": frozenset({"group"}),
    "agent.suspended": frozenset({"cause"}),
    "agent.resumed": frozenset({"cause"}),
    "agent.retired": frozenset({"cause"}),
    "client.added": frozenset({"client", "kind", "expires_at", "algorithm"}),
    "client.ended": frozenset({"client", "kind", "cause"}),
    "trust.created": frozenset(
        {"kind", "issuer", "audience", "jwks_url", "allowed_hosts", "revision"}
    ),
    "trust.changed": frozenset(
        {"kind", "issuer", "audience", "jwks_url", "allowed_hosts", "revision"}
    ),
    "trust.ended": frozenset({"cause"}),
    "binding.created": frozenset({"binding", "trust", "claims"}),
    "binding.ended": frozenset({"binding", "trust", "cause"}),
    "token.issued": frozenset({"token", "method", "keys", "expires_at", "said_by", "parent"}),
    "device_login.allowed": frozenset({"address"}),
    "device_login.refused": frozenset({"address"}),
    "token.ended": frozenset({"token", "cause"}),
    # leases
    "lease.asked": frozenset({"lease", "agent", "scopes", "expires_at"}),
    "lease.taken": frozenset(
        {
            "lease",
            "agent",
            "remote_id",
            "fields",
            "digest",
            "provider",
            "expires_at",
            "lapses_at",
        }
    ),
    "lease.failed": frozenset({"lease", "agent", "code", "sentence"}),
    "lease.orphaned": frozenset({"lease", "agent", "code", "sentence", "lapses_at"}),
    "lease.renewed": frozenset({"lease", "agent", "expires_at"}),
    "lease.ending": frozenset({"lease", "agent", "aim", "cause"}),
    "lease.returned": frozenset({"lease", "agent", "note"}),
    "lease.expired": frozenset({"lease", "agent", "note"}),
    "lease.withdrawn": frozenset({"lease", "agent", "note"}),
    # usage
    "usage.dropped": frozenset({"until", "count"}),
    # audit
    "audit.searched": frozenset({"query", "page"}),
    "audit.opened": frozenset({"seq"}),
    "audit.exported": frozenset({"query", "format", "count", "size", "checkpoint"}),
    "audit.verified": frozenset(
        {"events", "checkpoints", "reads", "state", "problems", "events_per_s"}
    ),
    "reads.segment": frozenset(
        {"process", "first", "last", "count", "root", "first_at", "last_at"}
    ),
    "reads.dropped": frozenset({"until", "count"}),
    "access.refused": frozenset({"gate", "count", "first_at", "last_at", "example"}),
}
