"""Add or change a Connection: which server is reached with which credential needs approval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self
from uuid import UUID, uuid4

from django.db import transaction

from approvals import digests, ports, services
from approvals import selectors as requests
from approvals.ports import Outcome, Plan, RiskPoint, Run, Subject
from keyvault.accounts import selectors as people
from keyvault.accounts.models import User
from keyvault.actions import about_keys, connection_plan
from keyvault.connections import checks, drafts, renewals, selectors
from keyvault.connections import services as connections
from keyvault.connections.drafts import BadDraft, Draft
from keyvault.connections.models import Connection
from keyvault.inventory import selectors as inventory
from keyvault.rotation import delivering

if TYPE_CHECKING:
    from approvals.models import Request

JSON = Any


@ports.register
@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeConnection:
    """Make one Connection what `draft` says.

    base_revision: the revision that the plan was made on; 0 adds a Connection.
    fingerprint: keyed digest of the new admin credential, which lies sealed
    under `proposal_id` until it is approved; empty keeps the one in place.
    """

    kind: ClassVar[str] = "connection.change"
    title: ClassVar[str] = "Change a Connection"

    connection_id: UUID
    proposal_id: UUID
    base_revision: int
    fingerprint: str
    draft: Draft

    def to_payload(self) -> dict[str, JSON]:
        """Return what rebuilds this action; the credential is no part of it."""
        return {
            "connection_id": str(self.connection_id),
            "proposal_id": str(self.proposal_id),
            "base_revision": self.base_revision,
            "fingerprint": self.fingerprint,
            "draft": self.draft.to_json(),
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, JSON]) -> Self:
        """Rebuild the action. Raises ValueError on another shape."""
        if set(payload) != {field.name for field in fields(cls)}:
            raise ValueError("The stored action has other fields than a change of a Connection.")
        return cls(
            connection_id=UUID(payload["connection_id"]),
            proposal_id=UUID(payload["proposal_id"]),
            base_revision=int(payload["base_revision"]),
            fingerprint=str(payload["fingerprint"]),
            draft=Draft.from_json(payload["draft"]),
        )

    def attributes(self) -> Mapping[str, frozenset[str]]:
        """Return what policies match on; one that serves everywhere counts as protected."""
        reached = [row for row in inventory.environments() if self._serves(row.slug)]
        is_protected = any(row.protected for row in reached)
        return {
            "environment": frozenset({row.slug for row in reached}),
            "protected": frozenset({"yes" if is_protected else "no"}),
            "provider": frozenset({self.draft.provider}),
            "verb": frozenset({"change" if self.base_revision else "add"}),
        }

    def people(self, role: str) -> frozenset[UUID]:
        """Return the team that looks after the Connection; nobody owns one alone."""
        if role != "owner_team" or not self.draft.team:
            return frozenset()
        return about_keys.members(self.draft.team)

    def visible_to(self, person_id: UUID) -> bool:
        """Let administrators and auditors see the request."""
        return about_keys.role_may_look(person_id)

    def describe(self) -> Plan:
        """Return server, settings, way out and credential, now and then."""
        before, draft = self._row(), self.draft
        verb = "Change" if self.base_revision else "Add"
        return Plan(
            title=f"{verb} the Connection {draft.slug}",
            sentence=(
                f"{verb} the Connection {draft.title} ({draft.slug}): keyvault will "
                f"{connection_plan.work(draft)} at {connection_plan.server(draft)} as "
                f"{draft.admin_label or 'no user'}."
            ),
            target=Subject("connection", str(self.connection_id), draft.slug),
            fingerprint=digests.act_digest(kind="connection", id=self.connection_id),
            changes=connection_plan.changes(
                self.draft, before=before, fingerprint=self.fingerprint
            ),
            body={**self.to_payload(), "revision_now": before.revision if before else 0},
            breaks=connection_plan.breaks(self.draft, before=before),
            undo="Ask to change it back; the credential of before is deleted and must be typed.",
        )

    def risk(self) -> Sequence[RiskPoint]:
        """Return what makes this change risky."""
        can = connection_plan.work(self.draft)
        points = [RiskPoint(20, "Admin credential", f"It can {can} at this server.")]
        if "yes" in self.attributes()["protected"]:
            text = f"It serves {self.draft.environment or 'every environment'}."
            points.append(RiskPoint(25, "Protected environment", text))
        if self.draft.allowed_hosts:
            text = f"It may reach {', '.join(self.draft.allowed_hosts)}."
            points.append(RiskPoint(15, "Private addresses", text))
        if self.draft.config.get("tls") in {"disable", "require", "off"}:
            text = "The server is not proved by a certificate."
            points.append(RiskPoint(20, "Server not checked", text))
        return points

    def execute(self, *, request_id: UUID, run: Run) -> Outcome:
        """Write the Connection, move its credential into place, and check it by reading.

        Idempotent on `request_id`. What the check finds is shown and undoes nothing.
        """
        with transaction.atomic(durable=True):
            run.fence()
            row = self._write(request_id, run.now)
            delivering.follow(row)
        run.reached("connection:written")
        checked = checks.check(connection=row, actor=about_keys.WORKER, now=run.now)
        run.reached("connection:checked")
        found = checked.problems[0].sentence if checked.problems else "Nothing is in the way."
        return Outcome(f"{row.title} is set up. {found}", {"Connection": row.slug})

    def closed(self, *, request_id: UUID, state: str, now: datetime) -> None:
        """Delete the credential of a request that ended undone."""
        del request_id, state, now
        connections.drop_proposal(proposal_id=self.proposal_id)

    def _write(self, request_id: UUID, now: datetime) -> Connection:
        try:
            if self.base_revision:
                return connections.change(
                    connection_id=self.connection_id,
                    draft=self.draft,
                    fingerprint=self.fingerprint,
                    proposal_id=self.proposal_id,
                    base_revision=self.base_revision,
                    request_id=request_id,
                    actor=about_keys.WORKER,
                    now=now,
                )
            return connections.create(
                connection_id=self.connection_id,
                draft=self.draft,
                fingerprint=self.fingerprint,
                proposal_id=self.proposal_id,
                request_id=request_id,
                actor=about_keys.WORKER,
                now=now,
            )
        except (connections.Changed, connections.SlugTaken) as error:
            raise ports.CannotExecute("changed", str(error)) from error
        except renewals.Busy as error:
            raise ports.Unfinished("busy", str(error)) from error

    def _serves(self, environment: str) -> bool:
        before = self._row()
        served = {self.draft.environment} | (
            {before.environment.slug if before.environment else ""} if before else set()
        )
        return "" in served or environment in served

    def _row(self) -> Connection | None:
        try:
            return selectors.by_id(self.connection_id)
        except ports.NotVisible:
            return None


def ask(
    *,
    person: User,
    draft: Draft,
    credential: Mapping[str, str],
    reason: str,
    now: datetime,
    slug: str = "",
    ticket: str = "",
) -> Request:
    """Ask to add a Connection, or to change the one named `slug`; return the request.

    Raises BadDraft, NotVisible, about_keys.AlreadyAsked, keyring.NoKey, and what
    `approvals.services.submit` raises.
    """
    before = selectors.get(slug) if slug else None
    wanted, typed = clean(draft, credential, before=before)
    with transaction.atomic(durable=True):
        connection_id = before.pk if before else uuid4()
        _refuse_second(connection_id)
        proposal_id = uuid4()
        action = ChangeConnection(
            connection_id=connection_id,
            proposal_id=proposal_id,
            base_revision=before.revision if before else 0,
            fingerprint=connections.propose(proposal_id=proposal_id, credential=typed, now=now),
            draft=wanted,
        )
        return services.submit(
            action=action, requester=person, reason=reason, ticket=ticket, now=now
        )


def clean(
    draft: Draft, credential: Mapping[str, str], *, before: Connection | None
) -> tuple[Draft, dict[str, str]]:
    """Return draft and typed credential as they can be asked for. Raises BadDraft.

    A sealed credential is never pointed at another server: whoever changes the
    settings types it again.
    """
    kind = before.provider if before else draft.provider
    if kind not in selectors.titles():
        raise BadDraft({"provider": "Choose one of the providers or destinations."})
    wanted = drafts.clean(draft, schema=selectors.config_schema(kind))
    _check_place(wanted, before)
    is_needed = before is None or dict(before.config) != dict(wanted.config)
    schema = selectors.credential_schema(kind)
    typed = drafts.clean_credential(credential, schema=schema, is_needed=is_needed)
    return wanted, typed


def _check_place(draft: Draft, before: Connection | None) -> None:
    errors = {}
    if before is None and selectors.exists(draft.slug):
        errors["slug"] = f"There is a Connection named {draft.slug} already. Choose another name."
    if before is not None and draft.slug != before.slug:
        errors["slug"] = "The name of a Connection never changes."
    if draft.environment and inventory.environment(draft.environment) is None:
        errors["environment"] = "Choose one of the environments."
    if draft.team and draft.team not in {team.slug for team in people.teams()}:
        errors["team"] = "Choose one of the teams."
    if draft.renew_days and not renewals.is_offered(draft.provider):
        errors["renew_days"] = "This provider cannot renew its admin credential: leave it empty."
    if errors:
        raise BadDraft(errors)


def _refuse_second(connection_id: UUID) -> None:
    kind = ChangeConnection.kind
    for request in requests.open_for_subject("connection", connection_id, act=kind):
        raise about_keys.AlreadyAsked("A change of it has been asked already.", request.pk)


def asked_about(*, person: User, connection_id: UUID) -> list[Request]:
    """Return the newest requests about a Connection that a person may see.

    The rule of `visible_to` is asked once for all of them, and the rule for
    reviewers only where a request is open.
    """
    rows = requests.for_subject("connection", connection_id)
    if about_keys.role_may_look(person.pk):
        return rows
    return [row for row in rows if requests.took_part(person, row) or _reads(person, row)]


def _reads(person: User, request: Request) -> bool:
    if not request.is_open:
        return False
    try:
        requests.access_request(person, request.pk)
    except ports.NotVisible:
        return False
    return True
