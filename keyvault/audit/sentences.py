"""One plain sentence for each event: who did what to what, before any machine field.

Pure. A test demands a sentence for every name in the closed list.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SENTENCES: Mapping[str, str] = {
    # approvals
    "request.submitted": "{actor} asked for approval of {subject}.",
    "request.revised": "{actor} changed what {subject} asks for; decisions start again.",
    "request.decided": "{actor} decided on {subject}: {verdict}.",
    "request.commented": "{actor} wrote a comment on {subject}.",
    "request.withdrawn": "{actor} withdrew {subject}.",
    "request.expired": "No one decided in time, so {subject} lapsed.",
    "request.invalidated": "{subject} no longer matches what was approved and was stopped.",
    "request.executing": "Work began on {subject}.",
    "request.done": "{subject} is done.",
    "request.failed": "{subject} failed: {sentence}",
    "job.held": "A step of {subject} is held for a person: {sentence}",
    "job.resumed": "{actor} let a held step of {subject} run again.",
    "job.refused": "A step of {subject} was refused: {cause}.",
    "policy.saved": "{actor} saved version {version} of policy {name}.",
    # accounts
    "person.created": "{actor} created the account of {subject}.",
    "person.deactivated": "{actor} deactivated the account of {subject}.",
    "person.invited": "{actor} invited {subject}.",
    "team.created": "{actor} created the group {subject}.",
    "membership.joined": "{subject} joined {group}.",
    "membership.left": "{subject} left {group}.",
    "factor.enrolled": "{subject} enrolled a second factor.",
    "factor.replaced": "{subject} replaced a second factor.",
    "factor.reset": "The second factors of {subject} were reset.",
    "recovery_codes.issued": "{subject} got {count} new recovery codes.",
    "recovery.asked": "{actor} asked to recover {subject}; it opens at {opens_at}.",
    "recovery.cancelled": "{actor} cancelled the recovery of {subject}.",
    "recovery.opened": "The recovery of {subject} opened one enrolment.",
    "recovery_code.used": "{subject} used a recovery code; {left} are left.",
    "password.changed": "{subject} changed the password.",
    "session.opened": "{actor} signed in.",
    "session.closed": "{actor} signed out.",
    "sessions.ended": "All sessions of {subject} were ended.",
    "lockout.started": "Too many wrong codes or passwords: {subject} is locked out for a while.",
    "invitation.code_shown": "{actor} was shown the code of an invitation for {subject}.",
    "invitation.used": "{subject} used an invitation.",
    "invitation.withdrawn": "{actor} withdrew the invitation of {subject}.",
    "installation.token_made": "A one-time token for the set-up was made.",
    "installation.set_up": "{actor} set up this installation.",
    "installation.left_solo": "A second administrator is enrolled: solo mode ended.",
    # agents
    "agent.registered": "{actor} registered the agent {subject}.",
    "agent.changed": "{actor} changed what is said of the agent {subject}.",
    "agent.owner_changed": "Other people answer for the agent {subject} now.",
    "agent.joined": "The agent {subject} joined {group}.",
    "agent.left": "{actor} took the agent {subject} out of {group}.",
    "agent.suspended": "{actor} suspended the agent {subject}: {cause}.",
    "agent.resumed": "{actor} let the agent {subject} work again: {cause}.",
    "agent.retired": "{actor} retired the agent {subject} for good: {cause}.",
    "client.added": "{actor} gave the agent {subject} a way to authenticate ({kind}, {client}).",
    "client.ended": "The {kind} {client} of the agent {subject} was ended: {cause}.",
    "trust.created": "{actor} trusted the issuer {issuer} as {subject}.",
    "trust.changed": "{actor} changed the trust in {issuer} ({subject}).",
    "trust.ended": "{actor} ended the trust {subject}: {cause}.",
    "binding.created": "{actor} bound tokens of {trust} to the agent {subject}.",
    "binding.ended": "Tokens of {trust} no longer make their bearer {subject}: {cause}.",
    "token.issued": "{subject} got the token {token}.",
    "device_login.allowed": "{actor} signed {subject} in, which asked from {address}.",
    "device_login.refused": "{actor} refused to sign {subject} in, which asked from {address}.",
    "token.ended": "The token {token} of {subject} was ended: {cause}.",
    # inventory
    "key.requested": "{actor} asked for {subject} and reserved its name.",
    "key.redeclared": "{actor} changed what is asked for {subject}.",
    "dependent.registered": "{dependent} was registered as a user of {subject}.",
    "dependent.pushed": "keyvault wrote version {number} of {subject} to {dependent}.",
    "dependent.removed": "keyvault removed its value of {subject} from {dependent}.",
    "dependent.ended": "{dependent} is no longer registered as a user of {subject}.",
    "place.checked": "{actor} had a place at {connection} checked for {subject}.",
    "dependent.probe_set": "keyvault asks {address} how {dependent} is with {subject}.",
    "dependent.probe_ended": "keyvault no longer asks {address} about {dependent}.",
    "rotation.started": "A rotation of {subject} began: {trigger}.",
    "rotation.moved": "The rotation of {subject} went from {before} to {state}.",
    "rotation.chosen": "{actor} chose for the rotation of {subject}: {choice}.",
    "rotation.delivered": "{dependent} is {state} in the rotation of {subject}.",
    "rotation.skipped": "{subject} was left out of a rotation of many keys: {cause}.",
    "rotation.hurried": "{actor} cut what the rotation of {subject} waits for, as in an incident: {reason}.",
    "rotation.batch_created": "The rotation of {keys} keys at once was written down: {trigger}.",
    "rotation.batch_stopped": "{actor} had no more keys begun and left out {left}: {reason}.",
    "key.rotation_due": "A rotation of {subject} is due: {cause}.",
    "key.live": "{subject} is live.",
    "key.changed": "The declared use or delivery of {subject} was changed.",
    "key.renamed": "{actor} gave {subject} the title {title}.",
    "key.revoked": "{subject} is revoked.",
    "key.released": "The name {subject} was released.",
    "grant.given": "{actor} granted {permission} on {subject}.",
    "grant.ended": "{actor} ended a grant on {subject}.",
    "environment.created": "{actor} created the environment {subject}.",
    # vault
    "kek.registered": "A key-encryption key was registered.",
    "version.created": "Version {number} of {subject} was sealed.",
    "version.issued": "The provider issued version {number} of {subject}.",
    "version.adopted": "A value that people brought became version {number} of {subject}.",
    "version.promoted": "Version {number} of {subject} became current.",
    "version.fell_back": "Version {number} of {subject} is current again.",
    "version.suspended": "Version {number} of {subject} is switched off at the provider.",
    "version.resumed": "Version {number} of {subject} is switched on again at the provider.",
    "version.revoked": "Version {number} of {subject} was revoked.",
    "version.destroyed": "Version {number} of {subject} was destroyed.",
    "secret.opened": "{actor} opened version {number} of {subject} for {purpose}.",
    "secret.revealed": "{actor} revealed version {number} of {subject} once.",
    "secret.reveal_refused": "{actor} was refused to reveal version {number} of {subject}.",
    "crypto.context_mismatch": "A sealed value of {subject} stood in the wrong place: refused.",
    # findings
    "finding.opened": "To look at: {sentence}",
    "finding.closed": "{actor} closed a finding on {subject}.",
    # connections
    "connection.created": "{actor} added the connection {subject}.",
    "connection.changed": "{actor} changed the connection {subject}.",
    "connection.checked": "The connection {subject} was checked.",
    "renewal.started": "The renewal of the admin credential of {subject} began.",
    "renewal.called": "A call that renews the admin credential of {subject} was announced.",
    "renewal.moved": "The renewal of the admin credential of {subject} went from {before} to {state}.",
    "renewal.held": "The renewal of the admin credential of {subject} waits for a person.",
    "renewal.resumed": "{actor} had the renewal of the admin credential of {subject} go on.",
    "trial.started": "A test run of {subject} began.",
    "trial.called": "A call that makes a throwaway credential at {subject} was announced ({tag}).",
    "trial.stepped": "The test run of {subject} noted the step {step}: {outcome}.",
    "trial.moved": "The test run of {subject} went from {before} to {state}.",
    "connection.inventoried": "The connection {subject} was compared with the inventory.",
    "connection.orphan_revoked": "{actor} revoked an orphan at {subject}.",
    "attempt.written": "A call to the provider of {subject} was announced.",
    "attempt.unanswered": "The provider gave no answer about {subject}.",
    "attempt.settled": "It is settled what the provider did about {subject}.",
    "intake.received": "{actor} handed in a value for {subject}.",
    "adoption.proposed": "{actor} brought the value of {subject}, which waits sealed.",
    "adoption.dropped": "The value that was brought for {subject} was deleted.",
    "import.received": "{actor} brought {keys} keys for {subject}; {asked} were asked for, {duplicates} are known.",
    # leases
    "lease.asked": "{agent} asked for a credential of {subject} for one run.",
    "lease.taken": "{agent} took a lease of {subject} until {expires_at}.",
    "lease.failed": "No credential of {subject} could be minted for {agent}: {sentence}",
    "lease.orphaned": "What was minted of {subject} for {agent} is not known and ends by {lapses_at}: {sentence}",
    "lease.renewed": "{agent} holds its lease of {subject} until {expires_at}.",
    "lease.ending": "{actor} has a lease of {subject} that {agent} holds ended: {aim}.",
    "lease.returned": "The lease of {subject} that {agent} returned is ended. {note}",
    "lease.expired": "The time of a lease of {subject} that {agent} held is over. {note}",
    "lease.withdrawn": "A lease of {subject} was withdrawn from {agent}. {note}",
    # usage
    "usage.dropped": "{count} reported uses from before {until} were dropped, as their time was over.",
    # audit
    "audit.searched": "{actor} searched the audit log.",
    "audit.opened": "{actor} read event {seq}.",
    "audit.exported": "{actor} exported {count} events as {format}.",
    "audit.verified": "{actor} verified {events} events: {state}.",
    "reads.segment": "{count} reads were recorded: {first} to {last} of {subject}.",
    "reads.dropped": "{count} reads from before {until} were dropped: they are no longer kept.",
    "access.refused": "{actor} was refused {count} times at {gate}.",
}


class _Blank(dict[str, str]):
    """Leave out what an event does not carry instead of failing to show the event."""

    def __missing__(self, key: str) -> str:
        return "…"


def sentence(event: str, *, actor: str, subject: str, fields: Mapping[str, Any]) -> str:
    """Return the sentence of one event. An unknown name is said in its own words."""
    pattern = SENTENCES.get(event, "{actor}: {event} on {subject}.")
    words = {name: str(value) for name, value in fields.items()}
    return pattern.format_map(
        _Blank(words | {"actor": actor or "Somebody", "subject": subject, "event": event})
    )
