"""Withdraw, let lapse, and comment."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from approvals import ports, queue
from approvals.models import Comment, Request
from approvals.selectors import BY_ASKER, access_asked, access_request, may_comment
from approvals.services import states
from approvals.services.deciding import NotEligible
from approvals.services.states import Closed, check_text

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

log = logging.getLogger(__name__)

WITHDRAWABLE = (*Request.UNDECIDED, Request.State.APPROVED)


def withdraw(*, request_id: UUID, person: AbstractBaseUser, now: datetime) -> Request:
    """Take a request back before it runs. Repeating it changes nothing.

    Raises NotVisible, NotEligible for anybody but its requester, and Closed
    once it runs or has ended in another way.
    """
    with transaction.atomic(durable=True):
        access_request(person, request_id)
        request = states.lock(request_id)
        if request.requester_id != person.pk:
            raise NotEligible("Only the person who asked can withdraw a request.")
        return _withdraw(request, actor=ports.directory().actor(person.pk), now=now)


def withdraw_asked(*, request_id: UUID, asker: ports.Actor, now: datetime) -> Request:
    """Let the machine that asked take its request back. Raises NotVisible, Closed."""
    with transaction.atomic(durable=True):
        access_asked(asker, request_id)
        request = states.lock(request_id)
        return _withdraw(request, actor=asker, now=now, code=BY_ASKER)


def _withdraw(
    request: Request, *, actor: ports.Actor, now: datetime, code: str = "withdrawn"
) -> Request:
    """Withdraw a locked request. Raises Closed."""
    if request.state == Request.State.WITHDRAWN:
        return request
    if request.state not in WITHDRAWABLE:
        raise Closed(request)
    states.record("request.withdrawn", request, actor=actor, now=now)
    states.end(request, Request.State.WITHDRAWN, now=now, code=code)
    return request


def expire(*, now: datetime, limit: int = 200) -> int:
    """Let requests lapse that nobody decided in time; return how many. Each commits by itself."""
    late = Request.objects.filter(state__in=Request.UNDECIDED, expires_at__lte=now)
    ids = list(late.order_by("expires_at").values_list("pk", flat=True)[:limit])
    return sum(_lapse_alone(request_id, now=now) for request_id in ids)


def _lapse_alone(request_id: UUID, *, now: datetime) -> bool:
    """Let one request lapse; one that cannot be read any more holds up none of the others."""
    try:
        return _lapse(request_id, now=now)
    except (LookupError, ValueError) as error:
        log.error("request %s cannot lapse: %s", request_id, type(error).__name__)  # noqa: TRY400 - the message may hold what was stored.
        return False


def _lapse(request_id: UUID, *, now: datetime) -> bool:
    with transaction.atomic(durable=True):
        request = states.lock(request_id)
        # A decision or a revision may have come first while this waited for the lock.
        if request.state not in Request.UNDECIDED or request.expires_at > now:
            return False
        states.record("request.expired", request, actor=states.CLOCK, now=now)
        states.end(
            request,
            Request.State.EXPIRED,
            now=now,
            code="expired",
            sentence="No one decided in time, so this request lapsed.",
        )
        queue.enqueue(kind=states.TELL, subject_id=request.pk)
        return True


def access_comment(person: AbstractBaseUser, request_id: UUID) -> Request:
    """Return a request that this person may write about. Raises NotVisible, NotEligible.

    Views call it before they look at what was typed.
    """
    request = access_request(person, request_id)
    if not may_comment(person, request):
        raise NotEligible("You read what others ask and decide here, and write nothing about it.")
    return request


def comment(*, request_id: UUID, person: AbstractBaseUser, text: str, now: datetime) -> Comment:
    """Say something about a request without deciding. Raises NotVisible, NotEligible, BadText."""
    with transaction.atomic(durable=True):
        request = access_comment(person, request_id)
        words = check_text("text", text, is_needed=True, name="A comment")
        actor = ports.directory().actor(person.pk)
        states.record("request.commented", request, actor=actor, now=now, fields={"comment": words})
        return Comment.objects.create(
            request=request,
            person_id=person.pk,
            person_label=actor.label,
            revision=request.revision,
            text=words,
            created_at=now,
        )
