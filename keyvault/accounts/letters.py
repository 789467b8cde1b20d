"""Mail to people about their own safety: a sentence and a link, never a payload."""

from __future__ import annotations

from collections.abc import Collection
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMessage

from approvals import ports
from keyvault.accounts.models import User


def send(*, people: Collection[UUID], subject: str, sentence: str, page: str) -> None:
    """Mail active people in blind copy. Raises Unfinished when the mail server does not answer.

    Without a mail server nothing is sent; the console says the same.
    """
    if not settings.APPROVALS_MAIL:
        return
    active = User.objects.filter(pk__in=people, is_active=True).exclude(email="")
    addresses = sorted(active.values_list("email", flat=True))
    if not addresses:
        return
    body = f"{sentence}\n\nOpen the console: {settings.PUBLIC_URL}{page}\n"
    try:
        EmailMessage(subject=f"[keyvault] {subject}", body=body, bcc=addresses).send()
    except (OSError, SMTPException) as error:
        raise ports.Unfinished(
            "mail", f"The mail server did not take the message ({type(error).__name__})."
        ) from error
