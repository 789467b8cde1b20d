"""What a declaration of a new key must satisfy before anybody is asked to approve it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from approvals import selectors as requests
from approvals.ports import NotVisible
from keyvault.accounts import selectors as people
from keyvault.accounts.models import Team, User
from keyvault.actions import key_plan
from keyvault.connections import minting
from keyvault.connections import selectors as connections
from keyvault.connections.models import Connection
from keyvault.inventory import calendars, limits, risk, selectors
from keyvault.inventory.declaration import Declaration
from keyvault.inventory.models import DeliveryMode, Environment, Key, KeyState
from keyvault.providers import registry
from keyvault.providers.base import Misconfigured

CREATE = "key.create"
LENT = DeliveryMode.PULL.value
_OFFERED = (DeliveryMode.REVEAL, DeliveryMode.PULL)


class BadDeclaration(Exception):
    """What is asked for cannot be; `errors` says for each field what is wrong and the mend.

    `nearest` holds the nearest allowed value of a field that goes beyond a limit.
    """

    def __init__(self, errors: Mapping[str, str], nearest: Mapping[str, int] | None = None) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors, self.nearest = dict(errors), dict(nearest or {})


def connection(slug: str) -> Connection:
    """Return a Connection by its slug. Raises NotVisible."""
    return connections.get(slug)


def environment(slug: str) -> Environment:
    """Return an environment by its slug. Raises NotVisible."""
    found = selectors.environment(slug)
    if found is None:
        raise NotVisible(f"environment {slug}")
    return found


def checked(declared: Declaration, *, person: User) -> Declaration:
    """Return the completed declaration. Raises BadDeclaration unless this person may ask for it."""
    declared = completed(declared)
    found = selectors.environment(declared.environment)
    is_protected = bool(found and found.protected)
    allowed = limits.limits(environment=declared.environment, protected=is_protected)
    excesses = limits.excesses(
        environment=declared.environment,
        protected=is_protected,
        lifetime_days=declared.lifetime_days,
        cadence_days=declared.cadence_days,
    )
    errors = _owners(declared, person) | _place(declared) | _options(declared)
    errors |= {excess.field: excess.sentence for excess in excesses}
    errors |= _calendar(declared, allowed)
    if errors:
        raise BadDeclaration(errors, {excess.field: excess.nearest for excess in excesses})
    return declared


def completed(declared: Declaration) -> Declaration:
    """Return the declaration with what the provider proposes for settings that were left empty."""
    options = {**_proposed(declared), **declared.options}
    return dataclasses.replace(declared, options=options)


def typed_options(declared: Declaration) -> dict[str, str]:
    """Return the settings that somebody typed: those that differ from what is proposed."""
    proposed = _proposed(declared)
    return {name: text for name, text in declared.options.items() if proposed.get(name) != text}


def _proposed(declared: Declaration) -> Mapping[str, str]:
    try:
        return connections.proposed_options(connection(declared.connection), declared.name)
    except (NotVisible, registry.UnknownKind):
        return {}


def teams(person: User) -> list[Team]:
    """Return the teams on whose behalf a person can ask."""
    return list(people.teams_of(person).filter(kind=Team.Kind.TEAM))


def backups(person: User) -> list[User]:
    """Return who can stand in for a person: everybody else who is active."""
    return list(people.people().filter(is_active=True).exclude(pk=person.pk))


def exposure(
    declared: Declaration, *, environment: Environment, owner_id: UUID, asked_at: datetime
) -> risk.Exposure:
    """Return the facts that the risk of a declared key hangs on."""
    days = known_days(owner_id, declared.team, asked_at)
    return exposure_in(declared, environment=environment, known_days=days)


def exposure_in(
    declared: Declaration, *, environment: Environment, known_days: int
) -> risk.Exposure:
    """Return the same for somebody of whom it is known how long they were in the team."""
    return risk.Exposure(
        environment=environment.slug,
        protected=environment.protected,
        lifetime_days=declared.lifetime_days,
        cadence_days=declared.cadence_days,
        has_backup=declared.backup_owner is not None,
        allowed_hosts=declared.allowed_hosts,
        volume_per_day=declared.volume_per_day,
        external_input=declared.external_input,
        read_by_person=declared.delivery_mode == DeliveryMode.REVEAL,
        known_days=known_days,
    )


def known_days(owner_id: UUID, team: str, asked_at: datetime) -> int:
    """Return for how many days the asker had been in the team when asking."""
    stays = people.history(people.user(owner_id)).filter(left_at=None, group__team__slug=team)
    stay = stays.first()
    return max((asked_at - stay.joined_at).days, 0) if stay else 0


def reserved_by(request_id: UUID, *, person: User) -> Key:
    """Return the key that this person's request asks for. Raises NotVisible."""
    key = selectors.by_request(request_id)
    if key is None or key.owner_id != person.pk or key.state != KeyState.REQUESTED:
        raise NotVisible(f"request {request_id}")
    # Keys that are adopted are asked for by one request together, in no form of one.
    if requests.by_ids([request_id])[request_id].kind != CREATE:
        raise NotVisible(f"request {request_id}")
    return key


def _owners(declared: Declaration, person: User) -> dict[str, str]:
    errors = {}
    if declared.team not in {team.slug for team in teams(person)}:
        errors["team"] = "Choose a team that you belong to."
    backup = declared.backup_owner
    if backup is not None and backup not in {other.pk for other in backups(person)}:
        errors["backup_owner"] = "Choose another active person."
    return errors


def _place(declared: Declaration) -> dict[str, str]:
    if selectors.environment(declared.environment) is None:
        return {"environment": "Choose one of the environments."}
    if declared.delivery_mode not in _OFFERED:
        return {"delivery_mode": "Choose one of the ways of delivery."}
    try:
        where = connection(declared.connection)
    except NotVisible:
        return {"connection": "Choose one of the Connections."}
    errors: dict[str, str] = {}
    if minting.mints(where):
        errors = _lent(where, declared)
    if where.environment is not None and where.environment.slug != declared.environment:
        slug = where.environment.slug
        errors = {"environment": f"{where.title} serves {slug} only. Choose {slug}."}
    return errors


def _lent(where: Connection, declared: Declaration) -> dict[str, str]:
    """Say what no key has whose credentials are lent for one run each."""
    errors, is_lent = {}, f"What {where.title} issues is lent to agents, for one run each."
    if declared.delivery_mode != LENT:
        errors["delivery_mode"] = f"{is_lent} Choose that agents fetch it."
    if declared.calendar:
        errors["calendar"] = f"{is_lent} No value changes on a day: leave it out."
    return errors


def _calendar(declared: Declaration, allowed: limits.Limits) -> dict[str, str]:
    """Say what is wrong with a fixed day: a value must last until there is one."""
    try:
        fixed = calendars.parse(declared.calendar)
    except calendars.BadCalendar as error:
        return {"calendar": str(error)}
    if fixed is None or declared.cadence_days >= fixed.least_days:
        return {}
    if allowed.cadence_days < fixed.least_days:
        most = allowed.cadence_days
        sentence = f"A value in {declared.environment} lasts at most {most} days."
        return {"calendar": f"{sentence} Fix a day of the week, or none."}
    sentence = f"It comes {fixed.words()}, so a value has to last at least {fixed.least_days} days."
    return {"cadence_days": sentence}


def _options(declared: Declaration) -> dict[str, str]:
    try:
        return option_faults(connection(declared.connection), declared.options)
    except (NotVisible, registry.UnknownKind):
        return {"connection": "Choose one of the Connections."}


def option_faults(where: Connection, options: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings of one credential at a Connection, by field.

    Raises registry.UnknownKind.
    """
    fields = registry.provider(where.provider).options_schema
    errors = {}
    for field in fields:
        value = options.get(field.name, "")
        if field.required and not value:
            errors[f"option_{field.name}"] = f"{field.label} is needed."
        elif field.choices and value and value not in {choice for choice, _ in field.choices}:
            errors[f"option_{field.name}"] = f"{field.label} is one of the listed values."
    if set(options) - {field.name for field in fields}:
        errors["connection"] = "This Connection does not take all of these settings."
    return errors or _unworkable(where, options)


def _unworkable(where: Connection, options: Mapping[str, str]) -> dict[str, str]:
    """Say what the provider refuses now, rather than after people have signed."""
    try:
        key_plan.foreseen(where, options)
    except Misconfigured as error:
        return {"options": str(error)}
    return {}


def deliveries(where: Connection | None = None) -> list[tuple[str, str]]:
    """Return the ways that work today in which whoever uses a key can come by its value.

    where: the Connection of the key, if it is known.
    """
    is_lent = where is not None and minting.mints(where)
    offered = (DeliveryMode.PULL,) if is_lent else _OFFERED
    return [(mode.value, str(mode.label)) for mode in offered]
