"""Sign a command line in through the browser (device flow, RFC 8628): begin, confirm, redeem.

A code counts once, for ten minutes, and only after a person has confirmed it
with a fresh second factor. Its token carries metadata and submit rights: the
gateway serves values to agents alone.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from approvals import digests, ports
from approvals.ports import NotVisible, Subject
from keyvault.accounts import lockout, selectors
from keyvault.accounts.models import User
from keyvault.agents import devices, tokens
from keyvault.agents.devices import DeviceLogin
from keyvault.agents.tokens import BadToken, Issued, Source
from keyvault.audit import ledger
from keyvault.crypto import digest
from keyvault.crypto import tokens as codes
from keyvault.crypto.secret import Secret

ACT = "device.login"
PREFIX = "kvd"
LIFETIME = timedelta(minutes=10)
INTERVAL_S, SLOWER_S, SLOWEST_S = 5, 5, 60
TOKEN_S = int(tokens.PERSON_MOST.total_seconds())
# RFC 8628 section 6.1: letters that are not taken for each other and spell no words.
LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_CODE_CHARS = 8
# What one subscriber may have under way, and what all may have before each gets one only: nobody
# is signed in when these are made, and nobody shall keep others out by making many.
MOST_OPEN, MOST_OPEN_OF_ALL = 20, 2000
_LOCK = 0x6B76_000D  # "kv": the advisory lock of whoever counts sign-ins and adds one.
_FORGET_AFTER = timedelta(days=1)


class TooMany(Exception):
    """Too many sign-ins are under way; they lapse within ten minutes."""


class WrongCode(lockout.Rejected):
    """No sign-in that waits has this code."""


class Pending(Exception):
    """Nobody has decided yet (RFC 8628 section 3.5)."""


class TooFast(Exception):
    """Asked again before the interval was over; the interval is longer from now on."""


class Denied(Exception):
    """The person has refused it."""


class Lapsed(Exception):
    """The ten minutes are over, the code was redeemed, or its person has signed out everywhere."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What the asker is told: the code that it keeps, and the one that a person types."""

    device_code: Secret
    user_code: str
    login: DeviceLogin


def begin(*, client_name: str, ip: str, now: datetime) -> Begun:
    """Make both codes. Raises TooMany.

    No ledger line: nothing has happened but a question of somebody unknown,
    and whoever could write lines so would fill the ledger.
    """
    with transaction.atomic(durable=True):
        _check_room(ip, now=now)
        # Under the lock that the line above takes: two that delete at once could meet in a deadlock.
        DeviceLogin.objects.filter(expires_at__lt=now - _FORGET_AFTER).delete()
        made, user_code = codes.issue(PREFIX), _user_code()
        login = DeviceLogin.objects.create(
            public_id=made.public_id,
            digest=made.stored,
            user_digest=_digest(user_code),
            client_name="".join(filter(str.isprintable, client_name))[:80],
            address=devices.written(ip),
            asked_at=now,
            expires_at=now + LIFETIME,
            interval_s=INTERVAL_S,
        )
    return Begun(made.text, f"{user_code[:4]}-{user_code[4:]}", login)


def _check_room(ip: str, *, now: datetime) -> None:
    """Refuse a subscriber that has enough under way. Raises TooMany.

    Of two that begin at once the second waits here, and counts what the first has made.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
    under_way = DeviceLogin.objects.filter(expires_at__gt=now, used_at=None)
    own = under_way.filter(_of_subscriber(ip)).count()
    if own >= MOST_OPEN or (own and under_way.count() >= MOST_OPEN_OF_ALL):
        raise TooMany


def _of_subscriber(ip: str) -> Q:
    """Return the condition that a sign-in was asked for by the subscriber of an address."""
    written = devices.written(ip)
    if ":" in written:
        return Q(address__startswith=written[: len("0000:0000:0000:0000:")])
    return Q(address=written)


def find(*, code: str, user: User, ip: str, now: datetime) -> DeviceLogin:
    """Return the waiting sign-in that a person has typed the code of.

    Behind the lockout of sign-in, so that nobody finds the code of another by
    trying. Raises WrongCode, lockout.LockedOut.
    """
    with lockout.attempt(username=user.username, ip=ip, now=now):
        login = _waiting(now).filter(user_digest=_digest(code)).first()
        if login is None:
            raise WrongCode
        return login


def act_digest(login: DeviceLogin, user: User) -> str:
    """Return what the step-up for a sign-in is bound to."""
    return digests.act_digest(kind=ACT, person=user.pk, login=login.pk)


def allow(*, login_id: UUID, user: User, proof_id: UUID, now: datetime) -> DeviceLogin:
    """Let the asker act for the person, after a fresh second factor. Raises NotVisible, NotPresent."""
    with transaction.atomic(durable=True):
        login = _locked(login_id, now)
        ports.presence().consume(
            proof_id, person_id=user.pk, digest=act_digest(login, user), now=now
        )
        return _decide(login, user, is_allowed=True, now=now)


def refuse(*, login_id: UUID, user: User, now: datetime) -> DeviceLogin:
    """Send the asker away; this takes no second factor. Raises NotVisible."""
    with transaction.atomic(durable=True):
        return _decide(_locked(login_id, now), user, is_allowed=False, now=now)


def redeem(*, device_code: str, now: datetime) -> Issued:
    """Give the token of an allowed sign-in, once. Raises Pending, TooFast, Denied, Lapsed, BadToken."""
    with transaction.atomic(durable=True):
        login = _by_code(device_code)
        outcome = _outcome(login, now)
        if outcome is None and login.user is not None:
            # The row is locked: of two that redeem at once, the second finds it used.
            login.used_at = now
            login.save(update_fields=["used_at"])
            return tokens.issue(
                holder=login.user,
                ttl_s=TOKEN_S,
                now=now,
                source=Source(),
                said_by=login.client_name,
            )
    # Raised outside, so that what was noted of the poll stays.
    raise outcome or Lapsed


def _outcome(login: DeviceLogin, now: datetime) -> Exception | None:
    """Return what stands against a token now, and note that it was asked for."""
    if login.used_at is not None or login.expires_at <= now:
        return Lapsed()
    if login.user is not None:
        return _decided(login, login.user)
    before, login.polled_at = login.polled_at, now
    is_too_fast = before is not None and now < before + timedelta(seconds=login.interval_s)
    if is_too_fast:
        login.interval_s = min(login.interval_s + SLOWER_S, SLOWEST_S)
    login.save(update_fields=["polled_at", "interval_s"])
    return TooFast() if is_too_fast else Pending()


def _decided(login: DeviceLogin, person: User) -> Exception | None:
    """Return what stands against a token of a sign-in that a person has decided.

    The person is locked and read again, so that no end of all sessions slips in
    between: what was allowed under an earlier epoch is over like the sessions of it.
    """
    if not login.is_allowed:
        return Denied()
    user = User.objects.select_for_update().get(pk=person.pk)
    return None if user.session_epoch == login.epoch else Lapsed()


def _by_code(device_code: str) -> DeviceLogin:
    """Return the locked row of a device code. Raises BadToken, in one way for every wrong code."""
    try:
        public_id = codes.public_id(device_code, PREFIX)
    except codes.Malformed:
        public_id = ""
    login = (
        DeviceLogin.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(public_id=public_id)
        .first()
    )
    is_right = codes.matches(device_code, login.digest if login else "0" * 64)
    if login is None or not is_right:
        raise BadToken
    return login


def _waiting(now: datetime) -> QuerySet[DeviceLogin]:
    return DeviceLogin.objects.filter(decided_at=None, expires_at__gt=now)


def _locked(login_id: UUID, now: datetime) -> DeviceLogin:
    login = _waiting(now).select_for_update().filter(pk=login_id).first()
    if login is None:
        raise NotVisible(f"device login {login_id}")
    return login


def _decide(login: DeviceLogin, user: User, *, is_allowed: bool, now: datetime) -> DeviceLogin:
    login.user, login.is_allowed, login.decided_at = user, is_allowed, now
    # The epoch of the session that allows it, which may have ended since it was read.
    login.epoch = user.session_epoch if is_allowed else None
    login.save(update_fields=["user", "is_allowed", "decided_at", "epoch"])
    ledger.record(
        "device_login.allowed" if is_allowed else "device_login.refused",
        actor=selectors.actor(user),
        subject=Subject("device", login.public_id, login.client_name or "A command line"),
        now=now,
        fields={"address": login.came_from},
    )
    return login


def _user_code() -> str:
    return "".join(secrets.choice(LETTERS) for _ in range(_CODE_CHARS))


def _digest(typed: str) -> str:
    """Return the keyed digest of a code as a person types it: any case, any separators."""
    letters = "".join(letter for letter in typed[:40].upper() if letter in LETTERS)
    return digest.keyed("device user code v1", letters)
