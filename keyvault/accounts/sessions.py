"""Open, verify, age and end browser sessions.

django-otp marks a session as verified but neither cycles its key nor says
when; both are done here. Times are seconds since the epoch, as JSON keeps them.
"""

from __future__ import annotations

from datetime import datetime

import django_otp
from django.conf import settings
from django.contrib import auth
from django.db import transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from approvals.ports import NotVisible
from keyvault.accounts import lockout, origin, selectors
from keyvault.accounts.devices import RecoverySheet, TOTPDevice
from keyvault.accounts.models import User
from keyvault.audit import ledger

BACKEND = "django.contrib.auth.backends.ModelBackend"
ABSOLUTE_S = 12 * 3600
TOUCH_S = 60
_ENDED = "keyvault.session_ended"
STARTED, SEEN, VERIFIED = "started_at", "seen_at", "verified_at"
ADDRESS, AGENT = "address", "agent"
_AGENT_CHARS = 200


def open_half(request: HttpRequest, user: User, *, now: datetime) -> None:
    """Begin a session after the password: it opens nothing but the second factor."""
    auth.login(request, user, backend=BACKEND)
    request.session[STARTED] = request.session[SEEN] = now.timestamp()
    request.session[ADDRESS] = origin.address(request)
    request.session[AGENT] = request.headers.get("User-Agent", "")[:_AGENT_CHARS]


def verify(
    request: HttpRequest, user: User, device: TOTPDevice | RecoverySheet, *, now: datetime
) -> None:
    """Make the session a full one after the second factor, under a new key."""
    method = "totp" if isinstance(device, TOTPDevice) else "recovery_code"
    with transaction.atomic(durable=True):
        ledger.record(
            "session.opened",
            actor=selectors.actor(user),
            subject=selectors.subject(user),
            now=now,
            fields={"method": method},
        )
    if method == "totp":
        lockout.clear(username=user.username)
    django_otp.login(request, device)
    cycle(request)
    request.session[SEEN] = request.session[VERIFIED] = now.timestamp()


def cycle(request: HttpRequest) -> None:
    """Give the session a new key, so that one seen before this moment is worth nothing."""
    request.session.cycle_key()


def is_verified(request: HttpRequest) -> bool:
    """Say whether password and second factor have both opened this session."""
    user = request.user
    return bool(isinstance(user, User) and user.is_active and user.otp_device is not None)


def person(request: HttpRequest) -> User:
    """Return who the session belongs to. Raises NotVisible for a visitor."""
    if not isinstance(request.user, User):
        raise NotVisible("nobody is signed in")
    return request.user


def is_over(request: HttpRequest, *, now: datetime) -> bool:
    """Say whether the session was idle for 30 minutes or is 12 hours old."""
    age_s = now.timestamp() - float(request.session.get(STARTED, 0))
    idle_s = now.timestamp() - float(request.session.get(SEEN, 0))
    return age_s > ABSOLUTE_S or idle_s > settings.SESSION_IDLE_S


def touch(request: HttpRequest, *, now: datetime) -> None:
    """Note that a person was here; at most one write a minute."""
    if now.timestamp() - request.session.get(SEEN, 0) > TOUCH_S:
        request.session[SEEN] = now.timestamp()


def end(request: HttpRequest, *, now: datetime) -> None:
    """End the session because the person asked for it."""
    if is_verified(request):
        with transaction.atomic(durable=True):
            ledger.record(
                "session.closed",
                actor=selectors.actor(person(request)),
                subject=selectors.subject(person(request)),
                now=now,
            )
    drop(request)


def drop(request: HttpRequest) -> None:
    """End a session that is over."""
    auth.logout(request)
    request.META[_ENDED] = True


def was_ended(request: HttpRequest) -> bool:
    """Say whether this very request ended a session."""
    return _ENDED in request.META


def label(request: HttpRequest) -> str:
    """Return a short name of the session for the ledger; the key cannot be found from it."""
    key = request.session.session_key
    return label_of(key) if key else ""


def label_of(key: str) -> str:
    """Return the short name of the session with this key."""
    return salted_hmac("keyvault.session", key, algorithm="sha256").hexdigest()[:16]
