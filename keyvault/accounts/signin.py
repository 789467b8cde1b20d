"""Check a password, in the same time whether or not there is such a person."""

from __future__ import annotations

import functools
import secrets
from datetime import datetime

from django.contrib.auth.hashers import check_password, make_password

from keyvault.accounts import lockout, names
from keyvault.accounts.models import User

LONGEST_PASSWORD = 4096


class BadCredentials(lockout.Rejected):
    """User name and password do not open an active account; which of them is not said."""


@functools.cache
def _decoy() -> str:
    """Return a hash that no password opens, at the cost that real ones have."""
    return make_password(secrets.token_urlsafe())


def check(*, username: str, password: str, ip: str, now: datetime) -> User:
    """Return the person whom name and password name. Raises BadCredentials, LockedOut.

    One path for everybody: an account that is missing, inactive or without a
    password is checked against a decoy hash, so that time tells nothing.
    """
    with lockout.attempt(username=username, ip=ip, now=now):
        decoy = _decoy()
        user = User.objects.filter(username=names.normalise(username)[:63]).first()
        is_open = user is not None and user.is_active and user.has_usable_password()
        encoded = user.password if user is not None and is_open else decoy
        fits = check_password(password[:LONGEST_PASSWORD], encoded)
        if user is None or not is_open or not fits:
            raise BadCredentials("no such name and password")
        return user
