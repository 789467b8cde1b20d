"""What every act on a key shares: whom it concerns, what policies match on, who may look."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from approvals import digests, ports, selectors
from approvals.ports import Actor
from keyvault.accounts import selectors as people
from keyvault.accounts.models import ADMINISTRATORS, AUDITORS
from keyvault.connections.models import Connection
from keyvault.connections.selectors import open_attempts
from keyvault.inventory import access, limits
from keyvault.inventory import selectors as inventory
from keyvault.inventory.models import Environment, Key

WORKER = Actor("system", "worker", "keyvault")
NONE = "none"
EVERYWHERE = "every environment"


class AlreadyAsked(Exception):
    """The same act on the same key waits for a decision or is running; carries its request."""

    def __init__(self, sentence: str, request_id: UUID) -> None:
        super().__init__(sentence)
        self.request_id = request_id


def attributes(
    *,
    environment: Environment,
    connection: Connection,
    team: str,
    labels: Iterable[str],
    lifetime_days: int,
) -> dict[str, frozenset[str]]:
    """Return what policies match on.

    "serves" is the environment that the Connection is kept for: a key named
    after one environment can do harm in every other that its server holds. A
    key is therefore protected as soon as one of those is.
    """
    kept_for = connection.environment
    reached = [environment, kept_for] if kept_for else inventory.environments()
    is_protected = any(row.protected for row in reached)
    return {
        "environment": frozenset({environment.slug}),
        "protected": frozenset({"yes" if is_protected else "no"}),
        "serves": frozenset({kept_for.slug if kept_for else EVERYWHERE}),
        "provider": frozenset({connection.provider}),
        "team": frozenset({team}),
        "label": frozenset(labels),
        "lifetime": frozenset({limits.span_class(lifetime_days)}),
    }


def attributes_of(key: Key) -> dict[str, frozenset[str]]:
    """Return what policies match on for a key that exists."""
    return attributes(
        environment=key.environment,
        connection=key.connection,
        team=key.team.team.slug,
        labels=key.labels,
        lifetime_days=key.lifetime_days,
    )


def members(team: str) -> frozenset[UUID]:
    """Return the live members of a team."""
    return frozenset(member.person_id for member in ports.directory().members([team]))


def people_of(key: Key, role: str) -> frozenset[UUID]:
    """Return the people of a host role for a key: its owner, or the members of its team."""
    if role == "owner":
        return frozenset({key.owner_id})
    return members(key.team.team.slug) if role == "owner_team" else frozenset()


def role_may_look(person_id: UUID) -> bool:
    """Say whether a person sees every request about keys by role."""
    try:
        return people.has_role(people.user(person_id), ADMINISTRATORS, AUDITORS)
    except ports.NotVisible:
        return False


def key_may_look(person_id: UUID, key_id: UUID) -> bool:
    """Say whether a person may see a key, and therefore what was asked about it."""
    try:
        access.access_key(people.user(person_id), key_id, "view")
    except ports.NotVisible:
        return False
    return True


def refuse_second(key: Key, kind: str, sentence: str) -> None:
    """Raise AlreadyAsked when an open request of this kind concerns the key already."""
    for request in selectors.open_for_subject("key", key.pk, act=kind):
        raise AlreadyAsked(sentence, request.pk)


def server(connection: Connection) -> dict[str, str | int]:
    """Return the part of a plan's body that names where its Connection leads.

    "server" is a digest of the settings without the credential, which may be
    mended while a request runs.
    """
    leads_to = digests.act_digest(
        kind="server",
        provider=connection.provider,
        config=dict(connection.config),
        allowed_hosts=list(connection.allowed_hosts),
    )
    return {
        "connection_id": str(connection.pk),
        "connection_revision": connection.revision,
        "server": leads_to,
    }


def require_server(key: Key, request_id: UUID) -> None:
    """Stop a run whose Connection leads elsewhere than the plan that was approved.

    A run that is taken up again renders no plan, so this is looked at by
    itself. Raises CannotExecute; NeedsPerson where a call was made already,
    because what it left behind is at the server of before.
    """
    if selectors.plan_of(request_id)["body"]["server"] == server(key.connection)["server"]:
        return
    sentence = f"{key.connection.title} leads to another server than the one approved."
    if open_attempts(key.pk):
        mend = "A call was made there already: have it changed back, then go on."
        raise ports.NeedsPerson("server_changed", f"{sentence} {mend}")
    raise ports.CannotExecute("server_changed", f"{sentence} Ask again.")


def environment_line(environment: Environment) -> tuple[str, str]:
    """Return how a plan names an environment, and the warning that goes with it."""
    return environment.slug, "Protected" if environment.protected else ""


def days(count: int) -> str:
    """Return a number of days in words."""
    return "1 day" if count == 1 else f"{count} days"
