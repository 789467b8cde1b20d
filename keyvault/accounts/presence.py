"""Step-up: one fresh second factor, bound to one act and used once (`approvals.ports.Presence`)."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from approvals.ports import NotPresent, Proof
from keyvault.accounts import factors, origin, sessions
from keyvault.accounts.devices import StepUp, TOTPDevice
from keyvault.accounts.models import User

TEMPLATE = "keyvault/accounts/step_up.html"
CODE, PROOF = "otp_code", "proof_id"
_NOT_CARRIED = frozenset({"csrfmiddlewaretoken", CODE, PROOF})
_WRONG = "That code is not right. Type the six digits that the app shows now."


class Presence:
    """Take and use up fresh second factors, behind the lockout that sign-in uses."""

    def ask(
        self, request: HttpRequest, *, sentence: str, digest: str, title: str = ""
    ) -> Proof | HttpResponse:
        """Return a proof that the POST carries, or the page to answer with instead.

        Called by a view, which is where the clock is read.
        """
        now = timezone.now()  # noqa: TID251  (The port passes the request and no time.)
        person = sessions.person(request)
        carried = _carried(request, person, digest=digest, now=now)
        if carried is not None:
            return carried
        page = {"sentence": sentence, "digest": digest, "title": title or "Confirm it is you"}
        if CODE not in request.POST:
            return _page(request, page, error="", status=200)
        try:
            proof = _prove(person, request, digest=digest, now=now)
        except factors.CodeUsed as used:
            return _page(request, page, error=str(used), status=422)
        except factors.BadCode:
            return _page(request, page, error=_WRONG, status=422)
        sessions.cycle(request)
        return proof

    def consume(self, proof_id: UUID, *, person_id: UUID, digest: str, now: datetime) -> Proof:
        """Use a proof up, inside the caller's transaction. Raises NotPresent.

        One guarded update decides: of two racers with one proof, one sees no row.
        Its conditions are columns of that row alone, for PostgreSQL judges only
        those again once the other racer's lock is gone.
        """
        fresh = _unused(person_id, digest=digest, now=now).filter(pk=proof_id)
        if not _counts(person_id) or fresh.update(used_at=now) != 1:
            raise NotPresent("Confirm with a fresh code: the last one was used or is too old.")
        return _proof(StepUp.objects.get(pk=proof_id))


def _counts(person_id: UUID) -> bool:
    """Say whether the person is still active and enrolled."""
    return TOTPDevice.objects.filter(
        user_id=person_id, user__is_active=True, confirmed=True
    ).exists()


def _unused(person_id: UUID, *, digest: str, now: datetime) -> QuerySet[StepUp]:
    return StepUp.objects.filter(
        user_id=person_id,
        digest=digest,
        used_at=None,
        proved_at__gt=now - timedelta(seconds=settings.STEP_UP_S),
    )


def _carried(request: HttpRequest, person: User, *, digest: str, now: datetime) -> Proof | None:
    try:
        proof_id = UUID(request.POST.get(PROOF, ""))
    except ValueError:
        return None
    row = _unused(person.pk, digest=digest, now=now).filter(pk=proof_id).first()
    return _proof(row) if row else None


def _prove(person: User, request: HttpRequest, *, digest: str, now: datetime) -> Proof:
    code = request.POST.get(CODE, "")
    factors.verify(user=person, code=code, ip=origin.address(request), now=now)
    row = StepUp.objects.create(user=person, method="totp", digest=digest, proved_at=now)
    return _proof(row)


def _proof(row: StepUp) -> Proof:
    return Proof(
        id=row.pk,
        person_id=row.user_id,
        method=row.method,
        digest=row.digest,
        proved_at=row.proved_at,
        used_at=row.used_at,
    )


def _page(request: HttpRequest, page: dict[str, str], *, error: str, status: int) -> HttpResponse:
    fields = [
        (name, value)
        for name, values in request.POST.lists()
        if name not in _NOT_CARRIED
        for value in values
    ]
    context = page | {
        "error": error,
        "fields": fields,
        "action": request.get_full_path(),
        "back": origin.local_path(request.POST.get("back", "")) or "/",
    }
    return render(request, TEMPLATE, context, status=status)
