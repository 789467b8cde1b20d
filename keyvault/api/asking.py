"""From a body to the act that it asks for: one line for each kind, and who may ask it.

There is a line for asking and none for deciding, revealing or running: those
are acts of people before the page that shows the plan (R20, R25).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from approvals import selectors, services
from approvals.ports import NotVisible
from keyvault.actions import (
    about_keys,
    add_place,
    add_probe,
    change_keys,
    create_key,
    grant_access,
    remove_place,
    reveal_secret,
    revoke_key,
    rotate_key,
)
from keyvault.agents import reach
from keyvault.api import asks, schemas
from keyvault.api.principals import Principal
from keyvault.api.problems import Fault, Problem
from keyvault.inventory import naming
from keyvault.inventory.declaration import Declaration

if TYPE_CHECKING:
    from approvals.models import Request
    from keyvault.accounts.models import User


def ask(principal: Principal, body: Any, *, now: datetime) -> Request:  # noqa: ANN401 - one of Ask.
    """Ask for what a body says, for the caller or, for an agent, for its owner.

    Raises what the act's own `ask` raises.
    """
    return _KINDS[type(body)](principal, body, now)


def revise(principal: Principal, request_id: UUID, body: asks.Revise, *, now: datetime) -> Request:
    """Change an undecided request of the caller's. Raises what `services.revise` raises."""
    person = principal.person
    row = selectors.access_request(person, request_id)
    if body.declared is None:
        return services.renew(
            request_id=request_id, person=person, now=now, reason=body.reason, ticket=body.ticket
        )
    if row.kind != create_key.CreateKey.kind:
        raise Problem("conflict", f"{row.label} is about a key that exists: nothing is declared.")
    return create_key.revise(
        person=person,
        request_id=request_id,
        declared=declaration(body.declared, reason=body.reason or row.reason),
        reason=row.reason if body.reason is None else body.reason,
        ticket=row.ticket if body.ticket is None else body.ticket,
        now=now,
    )


def declaration(asked: asks.Declared, *, reason: str) -> Declaration:
    """Return what is declared, with every name in its one form. Raises naming.BadName."""
    plain = asked.model_dump()
    return Declaration(
        **plain
        | {
            "name": naming.key_name(asked.name),
            "title": asked.title.strip() or naming.key_name(asked.name),
            "purpose": asked.purpose.strip() or reason.strip(),
            "allowed_hosts": naming.hosts("\n".join(asked.allowed_hosts)),
            "labels": naming.labels("\n".join(asked.labels)),
        }
    )


def changed(body: asks.ChangedUse) -> dict[str, Any]:
    """Return what is to hold for a key, every host and label in its one form. Raises naming.BadName."""
    plain = body.model_dump(include=set(asks.ChangedUse.model_fields), exclude_none=True)
    forms = {"allowed_hosts": hosts, "labels": labels}
    return {
        name: forms[name]("\n".join(given)) if name in forms else given
        for name, given in plain.items()
    }


def hosts(text: str) -> tuple[str, ...]:
    """Return the hosts in a text. Raises naming.BadName, also where there are too many of them."""
    found = naming.hosts(text)
    if len(found) > schemas.MOST_HOSTS:
        raise naming.BadName(f"A key has at most {schemas.MOST_HOSTS} allowed hosts.")
    return found


def labels(text: str) -> tuple[str, ...]:
    """Return the labels in a text. Raises naming.BadName, also where there are too many of them."""
    found = naming.labels(text)
    if len(found) > schemas.MOST_LABELS:
        raise naming.BadName(f"A key has at most {schemas.MOST_LABELS} labels.")
    return found


def change(
    principal: Principal,
    wanted: change_keys.Wanted,
    *,
    reason: str,
    ticket: str,
    now: datetime,
) -> change_keys.Asked:
    """Ask that other things hold for one key; an agent may ask it of the keys alone that it uses."""
    _require_used(principal, wanted.name, now)
    return change_keys.ask(
        person=on_behalf(principal),
        wanted=[wanted],
        reason=reason,
        ticket=ticket,
        agent_id=principal.agent_id,
        now=now,
    )


def _create(principal: Principal, body: asks.CreateKey, now: datetime) -> Request:
    return create_key.ask(
        declared=declaration(body.declared, reason=body.reason),
        agent_id=principal.agent_id,
        **_said(principal, body, now),
    )


def _revoke(principal: Principal, body: asks.RevokeKey, now: datetime) -> Request:
    """Ask to end a key; an agent may ask it of the keys alone that it uses."""
    name = naming.key_name(body.key)
    _require_used(principal, name, now)
    return revoke_key.ask(
        name=name,
        agent_id=principal.agent_id,
        **_said(principal, body, now),
    )


def _rotate(principal: Principal, body: asks.RotateKey, now: datetime) -> Request:
    """Ask to move a key to a new version; an agent may ask it of the keys alone that it uses."""
    name = naming.key_name(body.key)
    _require_used(principal, name, now)
    return rotate_key.ask(
        name=name,
        trigger=body.trigger,
        deploy_id=body.deploy_id.strip(),
        agent_id=principal.agent_id,
        **_said(principal, body, now),
    )


def _reveal(principal: Principal, body: asks.RevealSecret, now: datetime) -> Request:
    """Ask to see a value. An agent cannot have a value shown to somebody."""
    _require_person(principal)
    return reveal_secret.ask(name=_named(principal, body.key), **_said(principal, body, now))


def _grant(principal: Principal, body: asks.GiveGrant, now: datetime) -> Request:
    """Ask that an agent may use a key; an agent asks it for itself and for nobody else."""
    own = principal.agent.name if principal.agent else ""
    if own and (body.team or body.agent not in {"", own}):
        raise Problem("forbidden", "An agent asks for itself alone.")
    if bool(own or body.agent) == bool(body.team):
        raise Problem("invalid", errors=[Fault("Name one agent or one team.", "/agent")])
    return grant_access.ask(
        key=_named(principal, body.key),
        agent=own or body.agent,
        team=body.team,
        days=body.days,
        agent_id=principal.agent_id,
        **_said(principal, body, now),
    )


def _add_place(principal: Principal, body: asks.AddPlace, now: datetime) -> Request:
    """Ask that a key is written to a place. What is read there no ledger sees, so people ask it."""
    _require_person(principal)
    place = add_place.look(
        person=principal.person,
        key=_named(principal, body.key),
        connection=body.connection,
        target=body.target,
        now=now,
    )
    return add_place.ask(
        place=place,
        name=body.name,
        wave=body.wave,
        cache_s=body.cache_s,
        **_said(principal, body, now),
    )


def _remove_place(principal: Principal, body: asks.RemovePlace, now: datetime) -> Request:
    """Ask to remove a key from a place, by the name of its dependent."""
    _require_person(principal)
    key = _named(principal, body.key)
    return remove_place.ask(key=key, place=body.name, **_said(principal, body, now))


def _change(principal: Principal, body: asks.ChangeKey, now: datetime) -> Request:
    """Ask that other things hold for a key; what waits already is not asked twice."""
    wanted = change_keys.Wanted(naming.key_name(body.key), changed(body))
    said = {"reason": body.reason, "ticket": body.ticket}
    asked = change(principal, wanted, **said, now=now)
    if not asked.is_new:
        sentence = f"This change of {wanted.name} has been asked already."
        raise about_keys.AlreadyAsked(sentence, asked.request.pk)
    return asked.request


def _add_probe(principal: Principal, body: asks.AddProbe, now: datetime) -> Request:
    """Ask that an address says how a dependent is. It decides over rotations, so people ask it."""
    _require_person(principal)
    return add_probe.ask(
        key=_named(principal, body.key),
        dependent=body.name,
        address=body.address,
        is_private=body.private,
        **_said(principal, body, now),
    )


def _named(principal: Principal, text: str) -> str:
    """Return the name of a key; a person's token that names keys asks about no others.

    Raises naming.BadName, NotVisible.
    """
    name = naming.key_name(text)
    if principal.agent is None and not names(principal, name):
        raise NotVisible(f"key {name}")
    return name


def _require_used(principal: Principal, name: str, now: datetime) -> None:
    """Raise NotVisible for a key that an agent does not use, or that a token does not name."""
    if principal.agent is not None:
        reach.access_granted(principal.token, name, now=now)
    elif not names(principal, name):
        raise NotVisible(f"key {name}")


def names(principal: Principal, name: str) -> bool:
    """Say whether a token names this key, or none at all and so every key."""
    return principal.token.keys is None or name in principal.token.keys


def _require_person(principal: Principal) -> None:
    if principal.agent is not None:
        raise Problem("people-only")


def _said(principal: Principal, body: Any, now: datetime) -> dict[str, Any]:  # noqa: ANN401
    return {
        "person": on_behalf(principal),
        "reason": body.reason,
        "ticket": body.ticket,
        "now": now,
    }


def on_behalf(principal: Principal) -> User:
    """Return whose request it becomes: the caller's own, or that of the agent's owner."""
    return principal.agent.owner if principal.agent else principal.person


_KINDS: Mapping[type, Callable[[Principal, Any, datetime], Request]] = {
    asks.CreateKey: _create,
    asks.RotateKey: _rotate,
    asks.RevokeKey: _revoke,
    asks.RevealSecret: _reveal,
    asks.GiveGrant: _grant,
    asks.AddPlace: _add_place,
    asks.RemovePlace: _remove_place,
    asks.ChangeKey: _change,
    asks.AddProbe: _add_probe,
}
