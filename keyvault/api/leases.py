"""Leases: an agent takes a credential for one run, makes it last longer, and returns it.

This is the one part of the API that answers with a value: `takeLease`, once. The same
call again tells of the lease and not of its value.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel, ConfigDict, Field

from approvals.ports import NotVisible
from keyvault.agents import next_actions, tokens
from keyvault.api import pages, replays, schemas
from keyvault.api.principals import Principal, caller
from keyvault.api.problems import Problem
from keyvault.api.refusals import Unreachable
from keyvault.connections.minting import NotMinted
from keyvault.inventory import naming
from keyvault.leases import selectors, services, terms

if TYPE_CHECKING:
    from keyvault.leases.models import Lease as Row

JSON = Any
router = Router(tags=["leases"])
CREATED = 201
_LIST = "leases"
_STATES = "minting|open|ending|returned|expired|withdrawn|orphaned|failed"
Seconds = Annotated[int, Field(ge=terms.LEAST_S, le=terms.MOST_S)]
Scope = Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[!-~]+$")]


class TakeLease(schemas.In):
    """Which key an agent wants a credential of, and for how long.

    `ttl_seconds` is cut to what the right, the key and the provider allow. `scopes`: some
    of what the key may do, in the provider's words; none means all of it.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"key": "shop-repository", "ttl_seconds": 900, "scopes": ["contents:read"]}
            ]
        }
    )

    key: schemas.Name
    ttl_seconds: Seconds = terms.USUAL_S
    scopes: Annotated[list[Scope], Field(max_length=40)] = Field(default_factory=list)


class RenewLease(schemas.In):
    """For how long from now an open lease is to last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ttl_seconds": 900}]})

    ttl_seconds: Seconds = terms.USUAL_S


class Lease(schemas.Out):
    """One lease. Its value is not among what is said of it."""

    id: UUID
    key: str
    agent: str
    state: str
    scopes: list[str]
    cause: str = Field(description="Why it failed, was lost or was withdrawn.")
    created_at: datetime
    expires_at: datetime = Field(description="When keyvault ends it.")
    lapses_at: datetime = Field(description="When the provider has ended it by itself.")
    ended_at: datetime | None


class LeaseTaken(Lease):
    """A lease that was just taken, with its value: this once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "0b8f5a52-6a43-4a3c-9d0e-6f6f0c6f7c11",
                    "key": "shop-repository",
                    "agent": "release-bot",
                    "state": "open",
                    "scopes": ["contents:read"],
                    "cause": "",
                    "created_at": "2026-11-28T09:00:00Z",
                    "expires_at": "2026-11-28T09:15:00Z",
                    "lapses_at": "2026-11-28T10:00:00Z",
                    "ended_at": None,
                    "public": {"base_url": "https://api.github.com"},
                    "fields": {"token": "ghs_..."},
                }
            ]
        }
    )

    public: dict[str, str] = Field(description="What belongs to the value and is no secret.")
    fields: dict[str, str] | None = Field(
        description="The value, by the names of its parts; null when the call is repeated."
    )


class LeaseList(schemas.Out):
    """One page of the caller's leases, newest first."""

    items: list[Lease]
    next_cursor: str | None


class LeasesQuery(BaseModel):
    """How a list of leases is narrowed."""

    state: Annotated[str, Field(pattern=f"^({_STATES})?$")] = ""
    key: Annotated[str, Field(max_length=naming.NAME_MAX)] = ""
    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.post("/leases", response={CREATED: LeaseTaken}, operation_id="takeLease")
def take_lease(request: HttpRequest, body: TakeLease) -> HttpResponse:
    """Mint a credential for one run. The answer holds its value, and no other ever does.

    Return it when the run is over. It ends at `expires_at`, and with the agent's right.
    """
    principal = _agent(request)
    name = naming.key_name(body.key)
    try:
        lent = services.take(
            token=principal.token,
            name=name,
            ttl_s=body.ttl_seconds,
            scopes=body.scopes,
            now=timezone.now(),
        )
    except (NotMinted, tokens.BadToken):
        # What a lost answer may have made is held by nobody, and what came late is ended.
        replays.let_go(request)
        raise
    except NotVisible as hidden:
        # What was made for a right that has gone since is ended as well.
        replays.let_go(request)
        agent = principal.agent.name if principal.agent else ""
        raise Unreachable(next_actions.ask_for_grant(name, agent=agent)) from hidden
    value = {part: secret.reveal().decode() for part, secret in lent.material.items()}
    return replays.Once(
        _taken(lent.lease, lent.public, value),
        remembered=_taken(lent.lease, lent.public, None),
        status=CREATED,
        headers={"Location": f"/api/v1/leases/{lent.lease.pk}"},
    )


@router.get("/leases", response=LeaseList, operation_id="listLeases")
def list_leases(request: HttpRequest, query: Query[LeasesQuery]) -> LeaseList:
    """List the caller's leases, newest first."""
    principal = _agent(request)
    found = selectors.owned_before(
        principal.token,
        state=query.state,
        key=naming.key_name(query.key) if query.key else "",
        mark=str(pages.mark(_LIST, query.cursor) or ""),
        most=query.limit + 1,
    )
    shown = found[: query.limit]
    more = len(found) > len(shown)
    return LeaseList(
        items=[_shape(row) for row in shown],
        next_cursor=pages.cursor(_LIST, selectors.mark_of(shown[-1])) if more else None,
    )


@router.get("/leases/{uuid:lease_id}", response=Lease, operation_id="getLease")
def get_lease(request: HttpRequest, lease_id: UUID) -> HttpResponse:
    """Return one of the caller's leases, with an ETag."""
    row = selectors.own(_agent(request).token, lease_id)
    return pages.tagged(request, _shape(row))


@router.post("/leases/{uuid:lease_id}/renew", response=Lease, operation_id="renewLease")
def renew_lease(request: HttpRequest, lease_id: UUID, body: RenewLease) -> Lease:
    """Let an open lease last longer, as far as its credential lives: the value stays the same.

    Where that is not possible the refusal leads to a new lease.
    """
    row = services.renew(
        token=_agent(request).token,
        lease_id=lease_id,
        ttl_s=body.ttl_seconds,
        now=timezone.now(),
    )
    return _shape(row)


@router.delete("/leases/{uuid:lease_id}", response=Lease, operation_id="returnLease")
def return_lease(request: HttpRequest, lease_id: UUID) -> Lease:
    """Return a lease: its credential is ended at the provider at once. Repeating it is safe.

    `ending` in the answer: the provider did not confirm it yet, and keyvault goes on trying.
    """
    token = _agent(request).token
    return _shape(services.give_back(token=token, lease_id=lease_id, now=timezone.now()))


def _agent(request: HttpRequest) -> Principal:
    """Return the agent that calls. Raises Problem for a person."""
    principal = caller(request)
    if principal.agent is None:
        raise Problem(
            "forbidden",
            "Leases are taken and returned by agents, with their own token. A person sees them on "
            "the pages of the key and of the agent, and ends them there.",
        )
    return principal


def _shape(row: Row) -> Lease:
    return Lease(**_facts(row))


def _taken(row: Row, public: Mapping[str, str], fields: Mapping[str, str] | None) -> bytes:
    value = dict(fields) if fields is not None else None
    made = LeaseTaken(**_facts(row), public=dict(public), fields=value)
    return made.model_dump_json().encode()


def _facts(row: Row) -> dict[str, JSON]:
    copied = ("id", "state", "scopes", "cause", "created_at", "expires_at", "lapses_at", "ended_at")
    facts = {name: getattr(row, name) for name in copied}
    return {**facts, "key": row.key.name, "agent": row.agent.name}
