"""The admin's own way in, and the few things that every command of it needs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from keyvault.crypto.secret import Secret
from keyvault.providers.base import Ambiguous, Context, Denied, Misconfigured, Transient
from keyvault.providers.valkey.wire import Answered, Value, Wire, connect

_BUSY = {"BUSY", "LOADING", "OOM", "READONLY", "MASTERDOWN", "MISCONF"}
_MAY_COME_BACK = (
    "The user is ended, but the admin may not run ACL SAVE: with an ACL file, a restart would bring"
    " it back. Grant the admin +acl|save."
)


@contextmanager
def admin(ctx: Context) -> Iterator[Wire]:
    """Open a connection as the admin, and name the server's refusals without its words."""
    password = ctx.admin.get("password")
    if password is None:
        raise Denied("The Connection has no admin password. Enter it again.")
    try:
        with connect(ctx, str(ctx.config["user"]), password.reveal()) as wire:
            yield wire
    except Answered as error:
        if error.word == "NOPERM":
            raise Denied("The admin user may not run a command that is needed here.") from None
        if error.word in _BUSY:
            raise Transient(f"The server answered {error.word}.") from None
        raise Misconfigured(f"The server answered {error.word}.") from None


class Kept(StrEnum):
    """Where users are after a change. UNKNOWN: the admin may not run ACL SAVE, which would say it."""

    WRITTEN = "written"
    MEMORY = "memory"
    UNKNOWN = "unknown"


def keep(wire: Wire) -> Kept:
    """Write users to disk: the ACL file, or the configuration file where there is none.

    Return whether they are there after a restart; a server without any file keeps
    them in memory. Raises Ambiguous where the ACL file could not be written: CONFIG
    REWRITE would succeed then and leave the users out.
    """
    may_save = True
    try:
        wire.tell("ACL", "SAVE")
    except Answered as error:
        may_save = error.word != "NOPERM"
        if may_save and not error.has_no_acl_file:
            raise Ambiguous("The server could not write its users to its ACL file.") from None
    else:
        return Kept.WRITTEN
    kept = Kept.MEMORY
    with suppress(Answered):
        wire.tell("CONFIG", "REWRITE")
        kept = Kept.WRITTEN
    # Whether it wrote them is known only where ACL SAVE has said that there is no file.
    return kept if may_save else Kept.UNKNOWN


def keep_end(wire: Wire) -> None:
    """Write to disk that a user is ended. Raises Denied where nobody knows, and what `keep` raises."""
    if keep(wire) is Kept.UNKNOWN:
        raise Denied(_MAY_COME_BACK)


def texts(value: Value) -> list[str]:
    """Return the texts of a list that the server has answered."""
    items = value if isinstance(value, list) else []
    return [item.decode("utf-8", "replace") for item in items if isinstance(item, bytes)]


def digest(password: Secret) -> str:
    """Return the SHA-256 that the server compares. The password has 256 random bits."""
    return hashlib.sha256(password.reveal()).hexdigest()
