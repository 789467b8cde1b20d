"""Renew the password of the admin user itself: a user may have several, side by side."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress

from keyvault.crypto.secret import Secret
from keyvault.providers.base import (
    Ambiguous,
    Attempt,
    Capabilities,
    Context,
    Misconfigured,
    ProviderError,
    Recovery,
    Shape,
    Validation,
    Verdict,
    tag_of,
)
from keyvault.providers.valkey.admin import Kept, admin, digest, keep, texts
from keyvault.providers.valkey.wire import Answered, Rejected, Wire

PASSWORD_BYTES = 32
_IN_MEMORY = (
    "The server does not write its users to disk: after a restart the old password would be back."
    " Give it an aclfile, and the admin +acl|save, or a configuration file that it may write."
)


class AdminPassword:
    """What the provider does with the Connection's own user."""

    def admin_capabilities(self, ctx: Context) -> Capabilities:
        """Return passwords side by side, repaired by replay."""
        del ctx
        return Capabilities(Shape.MULTI, Recovery.CLIENT)

    def prepare_admin(self, ctx: Context, op_id: str, number: int) -> Attempt:
        """Choose the password."""
        with admin(ctx) as wire:
            wire.ask("ACL", "GETUSER", str(ctx.config["user"]))
        password = Secret.of(secrets.token_urlsafe(PASSWORD_BYTES))
        return Attempt(op_id, number, tag_of(op_id, number), material={"password": password})

    def create_admin(self, ctx: Context, attempt: Attempt) -> Mapping[str, Secret]:
        """Add the hash of the password, where the server will still know it after a restart."""
        new = attempt.material["password"]
        with admin(ctx) as wire:
            if keep(wire) is not Kept.WRITTEN:
                raise Misconfigured(_IN_MEMORY)
            wire.tell("ACL", "SETUSER", str(ctx.config["user"]), f"#{digest(new)}")
            if keep(wire) is not Kept.WRITTEN:
                raise Ambiguous("The server could not write its users to disk.")
        return dict(attempt.material)

    def withdraw_admin(self, ctx: Context, attempt: Attempt) -> None:
        """Do nothing: an equal attempt is simply repeated."""

    def validate_admin(self, ctx: Context) -> Validation:
        """Log in and ask for the own user, which the admin may."""
        user = str(ctx.config["user"])
        try:
            with admin(ctx) as wire:
                wire.ask("ACL", "GETUSER", user)
        except Rejected as error:
            return Validation(Verdict.INVALID, user, error.sentence)
        except ProviderError as error:
            return Validation(Verdict.UNKNOWN, user, error.sentence)
        return Validation(Verdict.VALID, user, "Logged in.")

    def revoke_admin(self, ctx: Context, old: Mapping[str, Secret]) -> None:
        """Take the hash of the old password away, then end other sessions where that is allowed."""
        user, hashed = str(ctx.config["user"]), digest(old["password"])
        with admin(ctx) as wire:
            if hashed in _hashes(wire, user):
                wire.tell("ACL", "SETUSER", user, f"!{hashed}")
            if keep(wire) is not Kept.WRITTEN:
                raise Ambiguous("The server could not write its users to disk.")
            # An admin without +client|kill leaves them open; docs/providers/valkey.md says so.
            with suppress(Answered):
                wire.tell("CLIENT", "KILL", "USER", user, "SKIPME", "yes")


def _hashes(wire: Wire, user: str) -> list[str]:
    answer = wire.ask("ACL", "GETUSER", user)
    fields = answer if isinstance(answer, list) else []
    return texts(dict(zip(texts(fields[::2]), fields[1::2], strict=False)).get("passwords"))
