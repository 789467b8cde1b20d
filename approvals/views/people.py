"""The person behind a request that has passed the host's gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from approvals import ports

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.http import HttpRequest


def person(request: HttpRequest) -> AbstractBaseUser:
    """Return who is signed in. Raises NotVisible for nobody, should a gate ever be missing."""
    user = request.user
    if not user.is_authenticated:
        raise ports.NotVisible("nobody is signed in")
    return user
