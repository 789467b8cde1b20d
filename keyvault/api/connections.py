"""Connections for those who look after them: where each stands, and how old its admin credential is."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import BaseModel, Field

from keyvault.accounts import gates, selectors
from keyvault.api import pages, schemas
from keyvault.api.principals import caller
from keyvault.api.schemas import Out
from keyvault.connections import renewals, trials
from keyvault.connections import selectors as connections
from keyvault.inventory import keyset

if TYPE_CHECKING:
    from keyvault.connections.models import Connection, Renewal, Trial

ORDER = keyset.Order("keyvault.api.connections.cursor")
READERS = ("administrators", "auditors", "responders")
router = Router(tags=["connections"])


class RenewalOut(Out):
    """One renewal of an admin credential."""

    id: UUID
    number: int = Field(description="The number of the credential that it leads to.")
    state: str = Field(description="planned, calling, in_use, done or failed.")
    started_by: str
    sentence: str
    created_at: datetime
    held_at: datetime | None = Field(description="Since when it waits for a person.")
    in_use_at: datetime | None
    ended_at: datetime | None


class AdminCredential(Out):
    """What may be told of an admin credential. Its value is nowhere in this API."""

    number: int = Field(description="0 where none is needed.")
    fingerprint: str
    in_place_at: datetime | None = Field(description="Empty where its age is not known.")
    can_renew: bool = Field(description="Whether keyvault renews it by itself when asked.")
    renew_days: int | None = Field(description="The approved cadence.")
    due_at: datetime | None
    renewal: RenewalOut | None = Field(description="The newest renewal, if there was one.")


class StepOut(Out):
    """One step of a test run."""

    step: str = Field(
        description="check, prepare, create, validate, find, revoke, refuse, gone or clean."
    )
    outcome: str = Field(description="ok, again (a later try follows) or failed.")
    sentence: str
    at: datetime


class TestRunOut(Out):
    """One test run: a throwaway credential that was made, tried and ended. Its value is nowhere."""

    id: UUID
    request_id: UUID
    state: str = Field(description="planned, calling, passed or failed.")
    started_by: str
    sentence: str
    left_behind: str = Field(description="What it could not end at the provider, if anything.")
    steps: list[StepOut]
    created_at: datetime
    ended_at: datetime | None


class ConnectionOut(Out):
    """One Connection. Servers and settings are shown on its page alone."""

    id: UUID
    name: str
    title: str
    provider: str
    environment: str | None
    team: str | None
    live_keys: int
    checked_at: datetime | None
    problems: list[str]
    admin_credential: AdminCredential
    test_run: TestRunOut | None = Field(description="The newest test run, if there was one.")


class ConnectionList(Out):
    """One page of Connections."""

    items: list[ConnectionOut]
    next_cursor: str | None


class ConnectionsQuery(BaseModel):
    """Which page of the list."""

    cursor: schemas.Cursor = ""
    limit: schemas.Limit = pages.LIMIT


@router.get("/connections", response=ConnectionList, operation_id="listConnections")
def list_connections(request: HttpRequest, query: Query[ConnectionsQuery]) -> ConnectionList:
    """List the Connections by name, for administrators, auditors and responders."""
    if not selectors.has_role(caller(request).person, *READERS):
        raise gates.MissingRight(READERS)
    page = keyset.cut(connections.counted(), ORDER, size=query.limit, after=query.cursor)
    ids = [row.pk for row in page.rows]
    renewed, tried = renewals.newest(ids), trials.newest(ids)
    return ConnectionList(
        items=[_shape(row, renewed.get(row.pk), tried.get(row.pk)) for row in page.rows],
        next_cursor=page.after or None,
    )


def _shape(row: Connection, renewal: Renewal | None, trial: Trial | None) -> ConnectionOut:
    days = timedelta(days=row.renew_days) if row.renew_days else None
    return ConnectionOut(
        id=row.pk,
        name=row.slug,
        title=row.title,
        provider=row.provider,
        environment=row.environment.slug if row.environment else None,
        team=row.team.name if row.team else None,
        live_keys=getattr(row, "live_count", 0),
        checked_at=row.checked_at,
        problems=[problem.sentence for problem in connections.problems(row)],
        admin_credential=AdminCredential(
            number=row.credential_number,
            fingerprint=row.credential_fingerprint,
            in_place_at=row.credential_at,
            can_renew=renewals.can_renew(row),
            renew_days=row.renew_days,
            due_at=row.credential_at + days if days and row.credential_at else None,
            renewal=RenewalOut.model_validate(renewal) if renewal else None,
        ),
        test_run=TestRunOut.model_validate(trial) if trial else None,
    )
