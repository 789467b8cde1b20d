"""Tell people by mail that a page waits for them: a sentence and a link, never a payload.

The mail is a job like any other, so a slow or dead mail server delays no page.
Chat and mail never decide (APPROVALS.md, rule 9).
"""

from __future__ import annotations

from collections.abc import Collection
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage
from django.urls import reverse

from approvals import ports, queue
from approvals.models import Request
from approvals.selectors import ballots
from approvals.services import states


@queue.handler(states.TELL)
def tell(request_id: UUID, run: ports.Run) -> None:
    """Mail those for whom a request has just become work. Raises Unfinished if mail is down."""
    if not getattr(settings, "APPROVALS_MAIL", False):
        return
    request = Request.objects.select_related("policy_version").get(pk=request_id)
    addresses = _addresses(_waiting(request, run))
    if not addresses:
        return
    message = EmailMessage(subject=_subject(request), body=_body(request), bcc=addresses)
    try:
        message.send()
    except (OSError, SMTPException) as error:
        raise ports.Unfinished(
            "mail", f"The mail server did not take the message ({type(error).__name__})."
        ) from error


def _waiting(request: Request, run: ports.Run) -> Collection[UUID]:
    """Return who must know: the deciders while it waits, afterwards the asker."""
    if request.state != Request.State.PENDING:
        return [request.requester_id]
    stages = ballots.read(request, now=run.now).judgement.stages
    return {person for stage in stages if stage.is_open for person in stage.can_act}


def _addresses(people: Collection[UUID]) -> list[str]:
    users = get_user_model().objects.filter(pk__in=people, is_active=True).exclude(email="")
    return sorted(users.values_list("email", flat=True))


def _subject(request: Request) -> str:
    """Return a subject with id and state, so that mail clients thread it."""
    if request.state == Request.State.PENDING:
        return f"[keyvault] Approve? {request.label}, risk {request.risk_score}"
    return f"[keyvault] {request.label}: {request.get_state_display().lower()}"


def _body(request: Request) -> str:
    link = settings.PUBLIC_URL + reverse("request", args=[request.pk])
    return (
        f"{request.label} is {request.get_state_display().lower()}.\n\n"
        f"Open it in the console: {link}\n\n"
        "You sign in there. This message cannot decide anything.\n"
    )
