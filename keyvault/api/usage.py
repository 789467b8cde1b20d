"""Use of keys: programs report what they have used, and read how much a key is used."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from django.http import HttpRequest
from django.utils import timezone
from ninja import Query, Router
from pydantic import BaseModel, BeforeValidator, Field

from keyvault.api.keys import key_of
from keyvault.api.principals import caller
from keyvault.api.schemas import In, Out
from keyvault.usage import selectors, services
from keyvault.usage.services import Reported

router = Router(tags=["usage"])
_DATE = len("2026-11-26")


def _text(value: object) -> object:
    """Let a moment come as a text alone: a number would be taken for seconds or for days.

    So would a number in quotes; of RFC 3339 the time stands behind the tenth character.
    """
    is_written = isinstance(value, str) and value[_DATE : _DATE + 1] in {"T", "t", " "}
    if is_written or isinstance(value, datetime):
        return value
    raise ValueError("Write a date and a time with its zone (RFC 3339).")


class UsageEvent(In):
    """One use of a key, or `count` like ones. `host`: what was called; `version`: its number."""

    key: str
    at: Annotated[datetime, Field(strict=False), BeforeValidator(_text)]
    host: str = ""
    count: int = 1
    version: int | None = None


class UsageBatch(In):
    """What a program has used."""

    events: Annotated[list[UsageEvent], Field(max_length=services.MOST_EVENTS)]


class RefusedEvent(Out):
    """Why one event was not taken, by its place in the batch (from 0)."""

    index: int
    code: str
    detail: str


class UsageReport(Out):
    """What became of a batch."""

    accepted: int
    refused: list[RefusedEvent]


class Bucket(Out):
    """How often within the hour or the day that begins then, UTC."""

    at: datetime
    count: int


class Part(Out):
    """The share of one user or host. `kind`: agent or user; gateway or reported."""

    kind: str
    name: str
    count: int
    last_at: datetime


class KeyUsage(Out):
    """The use of one key since a moment; `last_at` is the last use ever known.

    `by_user` and `by_host` hold those with the newest use, at most 20; `users`
    and `hosts` say how many there are. `read_day` (with leases) and `reported_day` are the
    sums of the last 24 hours. An agent is told of its own use alone.
    """

    since: datetime
    total: int
    last_at: datetime | None
    declared_per_day: int
    read_day: int
    reported_day: int
    by_hour: list[Bucket]
    by_day: list[Bucket]
    by_user: list[Part]
    by_host: list[Part]
    users: int
    hosts: int


class UsageQuery(BaseModel):
    """How far back the sums go, in days."""

    days: Annotated[int, Field(ge=1, le=selectors.LONGEST.days)] = selectors.DAYS


@router.post("/usage", response=UsageReport, operation_id="reportUsage")
def report_usage(request: HttpRequest, body: UsageBatch) -> UsageReport:
    """Take a batch of events; each is judged alone, and the answer says which were refused."""
    principal = caller(request)
    found = services.report(
        principal=principal.agent or principal.person,
        events=[Reported(one.key, one.at, one.host, one.count, one.version) for one in body.events],
        only=principal.token.keys,
        now=timezone.now(),
    )
    refused = [
        RefusedEvent(index=one.index, code=one.code, detail=one.sentence) for one in found.refused
    ]
    return UsageReport(accepted=found.accepted, refused=refused)


@router.get("/keys/{str:name}/usage", response=KeyUsage, operation_id="getKeyUsage")
def get_key_usage(request: HttpRequest, name: str, query: Query[UsageQuery]) -> KeyUsage:
    """Return how much a key is used, by hour, day, user and host; to an agent, by itself."""
    principal, now = caller(request), timezone.now()
    row = key_of(principal, name, now=now)
    since = now - timedelta(days=query.days)
    if principal.agent is None:
        found = selectors.usage_of(row.pk, since=since, now=now)
    else:
        found = selectors.usage_by(principal.agent.pk, since=since, now=now, keys=[row.pk])
    return KeyUsage(
        **{name: getattr(found, name) for name in _COPIED},
        declared_per_day=row.volume_per_day,
        by_hour=[Bucket.model_validate(one) for one in found.by_hour],
        by_day=[Bucket.model_validate(one) for one in found.by_day],
        by_user=[Part.model_validate(one) for one in found.by_user],
        by_host=[Part.model_validate(one) for one in found.by_host],
    )


_COPIED = ("since", "total", "last_at", "read_day", "reported_day", "users", "hosts")
